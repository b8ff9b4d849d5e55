//! Pictures of tasks, from their states.

use tiny_skia::{Color, FillRule, LineCap, Paint, PathBuilder, Pixmap, Rect, Stroke, Transform};

use crate::dynamics::{acrobot, mountain_car};
use crate::spaces::ObservationSpace;
use crate::step::Frame;
use crate::task::ControlTask;

const HEIGHT: u32 = 240;
const WIDTH: u32 = 320;
/// Pixels of a picture for each of a task that is seen in pixels.
const ENLARGED: usize = 6;

const PAPER: [u8; 3] = [255, 255, 255];
const INK: [u8; 3] = [40, 44, 52];
const MAIN: [u8; 3] = [61, 90, 128];
const SECOND: [u8; 3] = [238, 108, 77];
const GOAL: [u8; 3] = [82, 152, 114];
const FAINT: [u8; 3] = [205, 210, 216];

/// A picture with coordinates of the task's own: (0, 0) in the middle, y upwards.
struct Canvas {
    pixels: Pixmap,
    /// Pixels for one unit.
    scale: f32,
}

fn paint(color: [u8; 3]) -> Paint<'static> {
    let [red, green, blue] = color;
    let mut paint = Paint { anti_alias: true, ..Paint::default() };
    paint.set_color(Color::from_rgba8(red, green, blue, 255));
    paint
}

impl Canvas {
    /// One that is so many units wide.
    fn new(units: f64) -> Self {
        let mut pixels = Pixmap::new(WIDTH, HEIGHT).expect("a picture has pixels");
        let [red, green, blue] = PAPER;
        pixels.fill(Color::from_rgba8(red, green, blue, 255));
        Self { pixels, scale: WIDTH as f32 / units as f32 }
    }

    fn at(&self, (x, y): (f64, f64)) -> (f32, f32) {
        let (x, y) = (x as f32 * self.scale, y as f32 * self.scale);
        (WIDTH as f32 / 2.0 + x, HEIGHT as f32 / 2.0 - y)
    }

    fn line(&mut self, points: &[(f64, f64)], width: f64, color: [u8; 3]) {
        let mut path = PathBuilder::new();
        for (index, &point) in points.iter().enumerate() {
            let (x, y) = self.at(point);
            if index == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
        }
        let width = width as f32 * self.scale;
        let stroke = Stroke { width, line_cap: LineCap::Round, ..Stroke::default() };
        // A line that is nowhere in the picture leaves it as it is.
        if let Some(path) = path.finish() {
            self.pixels.stroke_path(&path, &paint(color), &stroke, Transform::identity(), None);
        }
    }

    fn disc(&mut self, center: (f64, f64), radius: f64, color: [u8; 3]) {
        let (x, y) = self.at(center);
        if let Some(path) = PathBuilder::from_circle(x, y, radius as f32 * self.scale) {
            let (paint, place) = (paint(color), Transform::identity());
            self.pixels.fill_path(&path, &paint, FillRule::Winding, place, None);
        }
    }

    /// A rectangle by its middle and its sides.
    fn rectangle(&mut self, center: (f64, f64), (width, height): (f64, f64), color: [u8; 3]) {
        let (x, y) = self.at(center);
        let (width, height) = (width as f32 * self.scale, height as f32 * self.scale);
        let rect = Rect::from_xywh(x - width / 2.0, y - height / 2.0, width, height);
        if let Some(rect) = rect {
            self.pixels.fill_rect(rect, &paint(color), Transform::identity(), None);
        }
    }

    fn frame(self) -> Frame {
        let pixels = self.pixels.data().chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec());
        Frame { height: HEIGHT as usize, width: WIDTH as usize, pixels: pixels.collect() }
    }
}

/// A picture of a task in a state.
///
/// # Panics
/// If the state has fewer numbers than the task's.
pub fn draw(task: ControlTask, state: &[f64]) -> Frame {
    match task {
        ControlTask::CartPole => cart_pole(state),
        ControlTask::Pendulum => pendulum(state),
        ControlTask::MountainCar | ControlTask::MountainCarContinuous => mountain_car(state),
        ControlTask::Acrobot => acrobot(state),
        ControlTask::Gridworld | ControlTask::GridworldWall => gridworld(task, state),
        ControlTask::MovingDot | ControlTask::Catch => enlarged(task, state),
    }
}

fn cart_pole(state: &[f64]) -> Frame {
    let (x, theta) = (state[0], state[2]);
    let mut canvas = Canvas::new(5.6);
    let ground = -0.8;
    canvas.line(&[(-2.8, ground), (2.8, ground)], 0.03, FAINT);
    for end in [-2.4, 2.4] {
        canvas.line(&[(end, ground - 0.15), (end, ground + 0.15)], 0.03, FAINT);
    }
    canvas.rectangle((x, ground), (0.6, 0.3), INK);
    // The pole of 1 is drawn as long as it is.
    let joint = (x, ground + 0.15);
    let tip = (joint.0 + theta.sin(), joint.1 + theta.cos());
    canvas.line(&[joint, tip], 0.1, SECOND);
    canvas.disc(joint, 0.06, MAIN);
    canvas.frame()
}

fn pendulum(state: &[f64]) -> Frame {
    let theta = state[0];
    let mut canvas = Canvas::new(3.4);
    canvas.line(&[(0.0, 0.0), (theta.sin(), theta.cos())], 0.18, MAIN);
    canvas.disc((0.0, 0.0), 0.06, INK);
    canvas.frame()
}

fn mountain_car(state: &[f64]) -> Frame {
    let middle = f64::midpoint(mountain_car::POSITION_MIN, mountain_car::POSITION_MAX);
    let place = |position: f64| (position - middle, 0.45 * (3.0 * position).sin() - 0.1);
    let mut canvas = Canvas::new(1.9);
    let hill: Vec<(f64, f64)> = (0..=100)
        .map(|at| {
            let along = f64::from(at) / 100.0;
            let (first, last) = (mountain_car::POSITION_MIN, mountain_car::POSITION_MAX);
            place(first + along * (last - first))
        })
        .collect();
    canvas.line(&hill, 0.012, FAINT);
    let (x, y) = place(0.475);
    canvas.line(&[(x, y), (x, y + 0.15)], 0.012, GOAL);
    canvas.rectangle((x + 0.03, y + 0.13), (0.06, 0.04), GOAL);
    let (x, y) = place(state[0]);
    canvas.disc((x, y + 0.04), 0.04, MAIN);
    canvas.frame()
}

fn acrobot(state: &[f64]) -> Frame {
    let mut canvas = Canvas::new(6.0);
    canvas.line(&[(-3.0, 1.0), (3.0, 1.0)], 0.02, GOAL);
    let (first, both) = (state[0], state[0] + state[1]);
    let elbow = (first.sin(), -first.cos());
    let tip = (elbow.0 + both.sin(), acrobot::tip_height(state));
    canvas.line(&[(0.0, 0.0), elbow], 0.18, MAIN);
    canvas.line(&[elbow, tip], 0.18, SECOND);
    canvas.disc((0.0, 0.0), 0.07, INK);
    canvas.disc(elbow, 0.07, INK);
    canvas.frame()
}

fn gridworld(task: ControlTask, state: &[f64]) -> Frame {
    let mut canvas = Canvas::new(7.2);
    let place = |row: f64, column: f64| (column - 2.0, 2.0 - row);
    for row in 0..5_u8 {
        for column in 0..5_u8 {
            let at = [f64::from(row), f64::from(column)];
            let color = match (task.unfit_state(&at).is_some(), (row, column)) {
                (true, _) => INK,
                (false, (4, 4)) => GOAL,
                _ => FAINT,
            };
            canvas.rectangle(place(at[0], at[1]), (0.94, 0.94), color);
        }
    }
    canvas.disc(place(state[0], state[1]), 0.3, SECOND);
    canvas.frame()
}

/// What is seen, larger.
fn enlarged(task: ControlTask, state: &[f64]) -> Frame {
    let ObservationSpace::Image { height, width, .. } = task.spaces().observation else {
        unreachable!("a task that is seen in pixels")
    };
    let mut seen = vec![0.0; height * width];
    task.observe(state, &mut seen);
    let mut pixels = Vec::with_capacity(3 * height * width * ENLARGED * ENLARGED);
    for row in seen.chunks(width) {
        let line: Vec<u8> =
            row.iter().flat_map(|&brightness| [(255.0 * brightness) as u8; 3 * ENLARGED]).collect();
        (0..ENLARGED).for_each(|_| pixels.extend_from_slice(&line));
    }
    Frame { height: ENLARGED * height, width: ENLARGED * width, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(frame: &Frame, color: [u8; 3]) -> usize {
        frame.pixels.chunks_exact(3).filter(|pixel| **pixel == color).count()
    }

    /// The mean place of a color, in pixels from the left and from above.
    fn middle(frame: &Frame, color: [u8; 3]) -> (f64, f64) {
        let (mut x, mut y) = (0.0, 0.0);
        for (at, pixel) in frame.pixels.chunks_exact(3).enumerate() {
            if pixel == color {
                x += (at % frame.width) as f64;
                y += (at / frame.width) as f64;
            }
        }
        let count = count(frame, color) as f64;
        (x / count, y / count)
    }

    #[test]
    fn pictures_show_where_things_are() {
        let upright = draw(ControlTask::Pendulum, &[0.0, 0.0]);
        let hanging = draw(ControlTask::Pendulum, &[std::f64::consts::PI, 0.0]);
        assert!(middle(&upright, MAIN).1 + 50.0 < middle(&hanging, MAIN).1);
        let [left, right] = [-1.0, 1.0].map(|x| draw(ControlTask::CartPole, &[x, 0.0, 0.0, 0.0]));
        let moved = middle(&right, INK).0 - middle(&left, INK).0;
        assert!((moved - 2.0 * 320.0 / 5.6).abs() < 1.0, "{moved}");
        let leaning = draw(ControlTask::CartPole, &[0.0, 0.0, 0.2, 0.0]);
        assert!(middle(&leaning, INK).0 < middle(&leaning, SECOND).0, "θ > 0 leans to the right");
        let goal = draw(ControlTask::MountainCar, &[0.475, 0.0]);
        assert!((middle(&goal, MAIN).0 - middle(&goal, GOAL).0).abs() < 6.0);
        let wall = draw(ControlTask::GridworldWall, &[0.0, 0.0]);
        assert!(3 * 1000 < count(&wall, INK), "four cells of the wall");
        assert_eq!(count(&draw(ControlTask::Gridworld, &[0.0, 0.0]), INK), 0);
        let up = draw(ControlTask::Acrobot, &[std::f64::consts::PI, 0.0, 0.0, 0.0]);
        assert!(middle(&up, SECOND).1 < middle(&up, MAIN).1);
        let dot = draw(ControlTask::MovingDot, &[0.0, 0.0]);
        assert_eq!(count(&dot, PAPER), 16 * ENLARGED * ENLARGED);
    }

    #[test]
    fn all_tasks_have_pictures_wherever_they_are() {
        for task in ControlTask::ALL {
            let names = task.state_names().len();
            for state in [vec![1.0; names], vec![1e6; names]] {
                // Cells and places are within their pictures.
                let is_far = 1.0 < state[0];
                let is_placed = matches!(task, ControlTask::MovingDot | ControlTask::Catch);
                if !(is_far && is_placed) {
                    let Frame { height, width, pixels } = draw(task, &state);
                    assert_eq!(pixels.len(), 3 * height * width);
                }
            }
        }
    }
}
