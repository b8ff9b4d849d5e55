//! JSON lines, JSON and CSV become records or errors that name a place.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use hearken_data::{
    Demonstration, OnBadRecord, Preference, Prompt, ReadOptions, Record, UnpairedPreference,
};
use libfuzzer_sys::fuzz_target;

fn read<T: Record>(bytes: &[u8], name: &str, on_bad_record: OnBadRecord) {
    let options = ReadOptions { on_bad_record, ..ReadOptions::default() };
    let reader = Cursor::new(bytes.to_vec());
    if let Err(error) = hearken_data::read_from::<T>(reader, Path::new(name), &options) {
        assert!(error.to_string().contains(name), "{error}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    for name in ["in.jsonl", "in.json", "in.csv"] {
        for on_bad_record in [OnBadRecord::Stop, OnBadRecord::Skip] {
            read::<Prompt>(bytes, name, on_bad_record);
            read::<Demonstration>(bytes, name, on_bad_record);
            read::<Preference>(bytes, name, on_bad_record);
            read::<UnpairedPreference>(bytes, name, on_bad_record);
        }
    }
});
