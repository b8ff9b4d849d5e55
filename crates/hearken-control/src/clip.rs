//! Moving pictures of a policy's episodes.

use hearken_env::{EnvironmentSetup, Frame, StepEnd};
use hearken_run::seeds::Seeds;

use crate::actions::Actions;
use crate::apng;
use crate::kept::Episode;
use crate::network::Pass;
use crate::rollout::Stage;
use crate::saved::{Acting, EnterError};

/// An episode, picture by picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Clip {
    /// Before each action, and behind the last one.
    pub frames: Vec<Frame>,
    /// What it came to.
    pub episode: Episode,
    /// How it ended; it goes on where there was no room for more.
    pub end: StepEnd,
}

/// Why there is no moving picture.
#[derive(Debug, thiserror::Error)]
pub enum ClipError {
    /// The policy cannot act there, or pictures cannot be drawn.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// Pictures of one episode have several sizes.
    #[error("picture {index} of the episode: found {found:?} pixels, expected {expected:?}")]
    Size {
        /// Which one, from 0.
        index: usize,
        /// Width and height.
        found: [usize; 2],
        /// Those of the first.
        expected: [usize; 2],
    },
}

/// An episode of a policy with its likeliest actions, of at most `frames_max` pictures.
///
/// # Errors
/// If the policy is for another environment, or a process serves that, and fails or draws nothing.
pub fn film(
    acting: &Acting,
    environment: &EnvironmentSetup,
    frames_max: usize,
    seeds: Seeds,
) -> Result<Clip, EnterError> {
    let environments = environment.open_to_draw()?;
    acting.check(&environments)?;
    let mut stage = Stage::new(environments, seeds)?;
    let mut actions = Actions::new(stage.spaces().actions);
    let (mut seen, mut row) = (vec![0.0; stage.spaces().observation.len()], Vec::new());
    let mut pass = Pass::default();
    let mut clip = Clip { frames: Vec::new(), episode: Episode::default(), end: StepEnd::Running };
    clip.frames.push(stage.environments.draw(0)?);
    while clip.end == StepEnd::Running && clip.frames.len() < frames_max {
        stage.environments.observe(0, &mut seen);
        actions.clear();
        acting.choose(&seen, &mut actions, &mut row, &mut pass);
        clip.end = stage.step(0, &actions, 0)?.end;
        clip.frames.push(stage.environments.draw(0)?);
    }
    clip.episode = stage.episodes[0];
    Ok(clip)
}

impl Clip {
    /// The clip as an animated PNG, which is repeated.
    ///
    /// # Errors
    /// If the pictures are not of one size.
    ///
    /// # Panics
    /// If there is none.
    pub fn apng(&self, frames_per_second: u16) -> Result<Vec<u8>, ClipError> {
        let first = &self.frames[0];
        let expected = [first.width, first.height];
        let uneven = |frame: &Frame| [frame.width, frame.height] != expected;
        if let Some(index) = self.frames.iter().position(uneven) {
            let frame = &self.frames[index];
            return Err(ClipError::Size { index, found: [frame.width, frame.height], expected });
        }
        Ok(apng::encode(&self.frames, frames_per_second, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_several_sizes_are_no_clip() {
        let frame = |shade: u8| Frame { height: 2, width: 3, pixels: vec![shade; 18] };
        let clip = Clip {
            frames: [10, 20, 30].map(frame).to_vec(),
            episode: Episode::default(),
            end: StepEnd::Terminated,
        };
        let bytes = clip.apng(25).unwrap();
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
        let mut uneven = clip;
        uneven.frames.push(Frame { height: 3, width: 2, pixels: vec![0; 18] });
        let error = uneven.apng(25).unwrap_err().to_string();
        assert_eq!(error, "picture 3 of the episode: found [2, 3] pixels, expected [3, 2]");
    }
}
