//! A file of tensors is read or refused, whatever its header says.
#![no_main]

mod scratch;

use hearken_model::checkpoint::TensorFiles;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::write("model.safetensors", bytes);
    match TensorFiles::open_file(&path) {
        Err(error) => assert!(error.to_string().contains("model.safetensors"), "{error}"),
        Ok(files) => {
            let names: Vec<String> = files.names().map(str::to_owned).collect();
            for name in names {
                let shape = files.shape(&name).map(<[usize]>::to_vec).unwrap_or_default();
                let _ = files.read(&name, &shape);
            }
        }
    }
});
