//! A tokenizer.json becomes a tokenizer that encodes and decodes, or an error that names it.
#![no_main]

mod scratch;

use hearken_model::Tokenizer;
use hearken_model::tokenizer::Bos;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = scratch::write("tokenizer.json", bytes);
    let dir = path.parent().expect("a file in a folder");
    match Tokenizer::load(dir) {
        Err(error) => assert!(error.to_string().contains("tokenizer"), "{error}"),
        Ok(tokenizer) => {
            if let Ok(ids) = tokenizer.encode("Hello, <s>wörld</s> 12\n  ☃", Bos::AsConfigured) {
                let _ = tokenizer.decode(&ids);
            }
        }
    }
});
