//! What the administrator of a project decides.

use serde::{Deserialize, Serialize};

/// Whether an annotator says why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rationale {
    /// It is not asked.
    Off,
    /// There is a field for it.
    #[default]
    Optional,
    /// A judgement without one is refused.
    Required,
}

/// What candidates are rated on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// What the page and the verdict call it.
    pub name: String,
    /// The lowest value.
    pub min: i32,
    /// The highest value.
    pub max: i32,
    /// One label per value from `min` to `max`, or none.
    #[serde(default)]
    pub labels: Vec<String>,
}

/// The settings of a project, a document of the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What every page calls the project.
    pub title: String,
    /// How many annotators judge an item that does not say so itself. At least 1.
    pub overlap: u32,
    /// How long an item is an annotator's, in minutes. At least 1.
    pub lease_minutes: u32,
    /// Points of the strength scale on each side of "equal"; 0 asks for no strength.
    pub strength_points: u8,
    /// What rating items are rated on.
    pub axes: Vec<Axis>,
    /// Whether an annotator says why.
    pub rationale: Rationale,
    /// How many items an annotator may judge in all.
    pub limit_total: Option<u32>,
    /// How many items an annotator may judge between two midnights, UTC.
    pub limit_day: Option<u32>,
    /// The share of screening items that an annotator has to judge rightly to get others, in [0, 1].
    pub screening_threshold: f64,
    /// How many screening items an annotator gets, drawn from all of them; `None` for all.
    pub screening_items: Option<u32>,
    /// The share of gold items among those handed out, in [0, 1].
    pub gold_share: f64,
    /// Whether "equally good" is offered.
    pub ties: bool,
    /// Whether "both bad" is offered.
    pub both_bad: bool,
    /// Whether the steps after the first bad one are not asked about.
    pub stop_at_first_error: bool,
    /// What to label next: the name of an order.
    pub order: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            title: "Hearken".into(),
            overlap: 1,
            lease_minutes: 30,
            strength_points: 0,
            axes: vec![Axis { name: "quality".into(), min: 1, max: 5, labels: Vec::new() }],
            rationale: Rationale::Optional,
            limit_total: None,
            limit_day: None,
            screening_threshold: 0.7,
            screening_items: None,
            gold_share: 0.1,
            ties: true,
            both_bad: true,
            stop_at_first_error: false,
            order: "random".into(),
        }
    }
}

impl Settings {
    /// The lease in milliseconds.
    pub fn lease_ms(&self) -> i64 {
        i64::from(self.lease_minutes) * 60_000
    }

    /// What is wrong with the settings, if anything. Which orders there are the service knows.
    ///
    /// # Errors
    ///
    /// A sentence that names the setting, what was found and what was expected.
    pub fn check(&self) -> Result<(), String> {
        let share = |name: &str, value: f64| {
            expect((0.0..=1.0).contains(&value), || format!("{name} lies in [0, 1], found {value}"))
        };
        let title = self.title.trim();
        expect(!title.is_empty() && title.chars().count() <= 200, || {
            "the title has 1 to 200 characters".into()
        })?;
        expect((1..=10_000).contains(&self.overlap), || {
            format!("the overlap is between 1 and 10000, found {}", self.overlap)
        })?;
        expect((1..=10_080).contains(&self.lease_minutes), || {
            format!("the lease is between 1 minute and a week, found {}", self.lease_minutes)
        })?;
        expect(self.strength_points <= 9, || {
            format!("the strength scale has at most 9 points, found {}", self.strength_points)
        })?;
        share("the screening threshold", self.screening_threshold)?;
        share("the share of gold items", self.gold_share)?;
        expect(self.screening_items != Some(0), || {
            "the number of screening items is at least 1; without screening items there is no screening"
                .into()
        })?;
        let mut names: Vec<&str> = self.axes.iter().map(|axis| axis.name.trim()).collect();
        names.sort_unstable();
        expect(names.windows(2).all(|pair| pair[0] != pair[1]), || {
            "two axes have the same name".into()
        })?;
        self.axes.iter().try_for_each(check_axis)
    }
}

fn check_axis(axis: &Axis) -> Result<(), String> {
    let Axis { name, min, max, labels } = axis;
    expect(!name.trim().is_empty(), || "an axis has no name".into())?;
    let values = i64::from(*max) - i64::from(*min) + 1;
    expect((2..=21).contains(&values), || {
        format!("axis {name:?} has between 2 and 21 values, found {min} to {max}")
    })?;
    let fits = labels.is_empty() || i64::try_from(labels.len()) == Ok(values);
    expect(fits, || format!("axis {name:?} has {values} values and {} labels", labels.len()))
}

fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut Settings)) -> String {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check().unwrap_err()
    }

    #[test]
    fn the_defaults_are_in_order() {
        assert_eq!(Settings::default().check(), Ok(()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(problem(|s| s.overlap = 0).contains("overlap"));
        assert!(problem(|s| s.gold_share = f64::NAN).contains("gold"));
        assert!(problem(|s| s.axes[0].labels = vec!["low".into()]).contains("5 values and 1"));
        assert!(problem(|s| s.axes.push(s.axes[0].clone())).contains("same name"));
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(serde_json::from_str::<Settings>(r#"{"overlapp": 2}"#).is_err());
    }
}
