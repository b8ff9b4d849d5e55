//! What `hearken scaling` says of machines that are not here.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::build;

/// Two-core machines as they were measured, with 10 gigabits a second between them; and GPUs by published figures, with a model of 7 billion
/// parameters: 8 of a machine, and 64 such machines, by Hearken's exchange and round a ring.
const CASES: [&str; 4] = [
    "--ranks 1,2,4,8,16,64 --ranks-per-node 1",
    "--ranks 1,2,4,8 GPU",
    "--ranks 8,64,128,256,512 --grow GPU",
    "--ranks 8,64,128,256,512 --grow --summation ring GPU",
];
/// Half of what a GPU's products reach, its memory, its links, eight adapters of 400 gigabits a second.
const GPU: &str = "--parameters 7e9 --train-tokens-per-s 9000 --step-ms 5 --sequence-ms 0.05 --slots 256 --link 300 \
                   --network 400 --latency 10 --memory 3000 --record-tokens 1024 --prompts 16 --prompt-tokens 256 \
                   --completion-tokens 1024";

/// The command's tables, to docs/results/cluster.txt.
pub(crate) fn cluster(root: &Path) -> Result<()> {
    let program = build(root)?;
    let mut text = String::new();
    for case in CASES {
        let words = format!("scaling {}", case.replace("GPU", GPU));
        let output =
            Command::new(&program).current_dir(root).args(words.split_whitespace()).output();
        let output = output.with_context(|| program.display().to_string())?;
        if !output.status.success() {
            bail!("`hearken {words}` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = String::from_utf8_lossy(&output.stdout);
        write!(text, "$ hearken {words}\n{}\n\n", said.trim())?;
    }
    let path = root.join("docs/results/cluster.txt");
    std::fs::write(&path, text.trim_end().to_owned() + "\n")?;
    super::super::say(&format!("wrote {}", path.display()));
    Ok(())
}
