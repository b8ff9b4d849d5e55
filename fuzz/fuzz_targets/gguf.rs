//! A GGUF file is read or refused, whatever its header says; what it holds becomes a model directory or an error.
#![no_main]

mod scratch;

use hearken_gguf::GgufFile;
use hearken_model::checkpoint::NumberFormat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::write("model.gguf", bytes);
    match GgufFile::open(&path) {
        Err(error) => assert!(error.to_string().contains("model.gguf"), "{error}"),
        Ok(file) => {
            for info in file.tensors().values() {
                let _ = file.values(info);
            }
            let directory = path.with_file_name("converted");
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir(&directory).expect("a scratch folder");
            let _ = hearken_gguf::read_into(&file, &directory, NumberFormat::F32);
        }
    }
});
