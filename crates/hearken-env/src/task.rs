//! The tasks by name.

use rand_chacha::ChaCha8Rng;

use crate::action::{Action, ActionSpace};
use crate::dynamics::gridworld::GridLayout;
use crate::dynamics::{
    PIXELS_SIDE, Transition, acrobot, cart_pole, catch, gridworld, mountain_car,
    mountain_car_continuous, moving_dot, pendulum,
};
use crate::spaces::{ObservationSpace, Spaces};

/// A control task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlTask {
    /// `CartPole-v1`.
    CartPole,
    /// `Pendulum-v1`.
    Pendulum,
    /// `MountainCar-v0`.
    MountainCar,
    /// `MountainCarContinuous-v0`.
    MountainCarContinuous,
    /// `Acrobot-v1`.
    Acrobot,
    /// `Gridworld-v0`: five rows of five cells, a goal in the last.
    Gridworld,
    /// `GridworldWall-v0`: the same with a wall across, open in the first column.
    GridworldWall,
    /// `MovingDot-v0`: a dot that should be in the middle, seen in pixels.
    MovingDot,
    /// `Catch-v0`: a ball that a paddle should catch, seen in pixels.
    Catch,
}

impl ControlTask {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::CartPole,
        Self::Pendulum,
        Self::MountainCar,
        Self::MountainCarContinuous,
        Self::Acrobot,
        Self::Gridworld,
        Self::GridworldWall,
        Self::MovingDot,
        Self::Catch,
    ];

    /// Gymnasium's id, where Gymnasium has it.
    pub fn id(self) -> &'static str {
        match self {
            Self::CartPole => "CartPole-v1",
            Self::Pendulum => "Pendulum-v1",
            Self::MountainCar => "MountainCar-v0",
            Self::MountainCarContinuous => "MountainCarContinuous-v0",
            Self::Acrobot => "Acrobot-v1",
            Self::Gridworld => "Gridworld-v0",
            Self::GridworldWall => "GridworldWall-v0",
            Self::MovingDot => "MovingDot-v0",
            Self::Catch => "Catch-v0",
        }
    }

    /// The names of a state's numbers, in their order.
    pub fn state_names(self) -> &'static [&'static str] {
        match self {
            Self::CartPole => &["x", "x_dot", "theta", "theta_dot"],
            Self::Pendulum => &["theta", "theta_dot"],
            Self::MountainCar | Self::MountainCarContinuous => &["position", "velocity"],
            Self::Acrobot => &["theta1", "theta2", "omega1", "omega2"],
            Self::Gridworld | Self::GridworldWall | Self::MovingDot => &["row", "column"],
            Self::Catch => &["row", "column", "paddle"],
        }
    }

    /// Length of an observation.
    pub fn observation_len(self) -> usize {
        match self {
            Self::CartPole => 4,
            Self::Pendulum => 3,
            Self::MountainCar | Self::MountainCarContinuous => 2,
            Self::Acrobot => 6,
            Self::Gridworld | Self::GridworldWall => gridworld::CELLS,
            Self::MovingDot | Self::Catch => PIXELS_SIDE * PIXELS_SIDE,
        }
    }

    /// What may be done.
    pub fn actions(self) -> ActionSpace {
        match self {
            Self::CartPole => ActionSpace::Discrete { count: 2 },
            Self::MountainCar | Self::Acrobot | Self::Catch => ActionSpace::Discrete { count: 3 },
            Self::MovingDot => ActionSpace::Discrete { count: 5 },
            Self::Gridworld | Self::GridworldWall => ActionSpace::Discrete { count: 4 },
            Self::Pendulum => {
                ActionSpace::Continuous { dimensions: 1, bound: pendulum::TORQUE_MAX }
            }
            Self::MountainCarContinuous => {
                ActionSpace::Continuous { dimensions: 1, bound: mountain_car_continuous::FORCE_MAX }
            }
        }
    }

    /// What is seen, and what may be done.
    pub fn spaces(self) -> Spaces {
        let (height, width) = (PIXELS_SIDE, PIXELS_SIDE);
        let observation = match self {
            Self::MovingDot | Self::Catch => ObservationSpace::Image { channels: 1, height, width },
            _ => ObservationSpace::Vector { length: self.observation_len() },
        };
        Spaces { observation, actions: self.actions() }
    }

    /// Steps after which an episode is cut off.
    pub fn horizon(self) -> u32 {
        match self {
            Self::CartPole | Self::Acrobot => 500,
            Self::Pendulum | Self::MountainCar => 200,
            Self::MountainCarContinuous => 999,
            Self::Gridworld | Self::GridworldWall => 100,
            Self::MovingDot => 50,
            // A ball lands after 13 steps.
            Self::Catch => 20,
        }
    }

    pub(crate) fn step(self, state: &mut [f64], action: Action<'_>) -> Transition {
        match self {
            Self::CartPole => cart_pole::step(state, action.index()),
            Self::Pendulum => pendulum::step(state, action.scalar()),
            Self::MountainCar => mountain_car::step(state, action.index()),
            Self::MountainCarContinuous => mountain_car_continuous::step(state, action.scalar()),
            Self::Acrobot => acrobot::step(state, action.index()),
            Self::Gridworld => gridworld::step(state, action.index(), GridLayout::Open),
            Self::GridworldWall => gridworld::step(state, action.index(), GridLayout::Wall),
            Self::MovingDot => moving_dot::step(state, action.index()),
            Self::Catch => catch::step(state, action.index()),
        }
    }

    pub(crate) fn reset(self, state: &mut [f64], rng: &mut ChaCha8Rng) {
        match self {
            Self::CartPole => cart_pole::reset(state, rng),
            Self::Pendulum => pendulum::reset(state, rng),
            Self::MountainCar | Self::MountainCarContinuous => mountain_car::reset(state, rng),
            Self::Acrobot => acrobot::reset(state, rng),
            Self::Gridworld => gridworld::reset(state, GridLayout::Open, rng),
            Self::GridworldWall => gridworld::reset(state, GridLayout::Wall, rng),
            Self::MovingDot => moving_dot::reset(state, rng),
            Self::Catch => catch::reset(state, rng),
        }
    }

    /// Writes what is observed of a state.
    pub fn observe(self, state: &[f64], observation: &mut [f32]) {
        match self {
            Self::CartPole => cart_pole::observe(state, observation),
            Self::Pendulum => pendulum::observe(state, observation),
            Self::MountainCar | Self::MountainCarContinuous => {
                mountain_car::observe(state, observation);
            }
            Self::Acrobot => acrobot::observe(state, observation),
            Self::Gridworld | Self::GridworldWall => gridworld::observe(state, observation),
            Self::MovingDot => moving_dot::observe(state, observation),
            Self::Catch => catch::observe(state, observation),
        }
    }

    /// What a state must be besides finite numbers, if `state` is not that.
    pub(crate) fn unfit_state(self, state: &[f64]) -> Option<&'static str> {
        let expected_place = |is_state: bool, expected| (!is_state).then_some(expected);
        let (layout, expected) = match self {
            Self::MovingDot => {
                let expected = "a row and a column, integers from 0 to 19";
                return expected_place(moving_dot::is_state(state), expected);
            }
            Self::Catch => {
                let expected =
                    "integers: a row from 0 to 12, a column from 0 to 13, a paddle from 1 to 12";
                return expected_place(catch::is_state(state), expected);
            }
            Self::Gridworld => (GridLayout::Open, "a row and a column, integers from 0 to 4"),
            Self::GridworldWall => (
                GridLayout::Wall,
                "a row and a column, integers from 0 to 4, of no cell of the wall",
            ),
            _ => return None,
        };
        (!gridworld::is_cell(state, layout)).then_some(expected)
    }

    /// How good a state is, for a judge who cannot go by the reward: where that is the same in almost every step
    /// (CartPole, MountainCar, Acrobot), a measure of progress from the task itself.
    ///
    /// | task | utility of a state |
    /// |---|---|
    /// | CartPole | −\|θ\| − \|x\|; where it is over, as little as that can be |
    /// | MountainCar, MountainCarContinuous | mechanical energy, sin 3x·0.0025/3 + v²/2, in units of 0.001 |
    /// | Acrobot | height of the tip above the joint |
    /// | Catch | −\|column of the ball − column of the paddle\| |
    /// | Pendulum, Gridworld, GridworldWall, MovingDot | none: the reward says it |
    pub fn utility(self, state: &[f64]) -> Option<f64> {
        match self {
            Self::CartPole => Some(cart_pole::utility(state)),
            Self::MountainCar | Self::MountainCarContinuous => {
                let potential = (3.0 * state[0]).sin() * mountain_car::GRAVITY / 3.0;
                Some(1000.0 * (potential + state[1] * state[1] / 2.0))
            }
            Self::Acrobot => Some(acrobot::tip_height(state)),
            Self::Catch => Some(-(state[1] - state[2]).abs()),
            Self::Pendulum | Self::Gridworld | Self::GridworldWall | Self::MovingDot => None,
        }
    }
}
