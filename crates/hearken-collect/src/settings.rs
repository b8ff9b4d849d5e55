//! What the administrator of a project decides.

use hearken_store::{Event, Expected, Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Kind and key of their document.
const KIND: &str = "project";
const KEY: &str = "settings";

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

/// Whether annotators see what a model suggests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Suggestions {
    /// Never.
    #[default]
    Off,
    /// With the item.
    Shown,
    /// With the item for half of the people, drawn for each item, so that the analysis can say how much it sways them.
    Measured,
    /// Once they have judged the item.
    After,
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
#[expect(clippy::struct_excessive_bools, reason = "each is a box that is ticked or not")]
pub struct ProjectSettings {
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
    /// Whether annotators see what a model suggests.
    pub suggestions: Suggestions,
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
    /// Whether a ranking may leave answers out.
    pub partial_rankings: bool,
    /// Whether an annotator may write or edit a better answer.
    pub better_answers: bool,
    /// Whether the turns of a conversation are rated one by one.
    pub rate_turns: bool,
    /// Whether suggestions that are shown may be confirmed many at once.
    pub confirm_in_bulk: bool,
    /// Whether the steps after the first bad one are not asked about.
    pub stop_at_first_error: bool,
    /// What to label next: the name of an order.
    pub order: String,
    /// The share of items that come at random, whatever the order says, in [0, 1].
    pub order_random_share: f64,
}

impl Default for ProjectSettings {
    fn default() -> Self {
        Self {
            title: "Hearken".into(),
            overlap: 1,
            lease_minutes: 30,
            strength_points: 0,
            axes: vec![Axis { name: "quality".into(), min: 1, max: 5, labels: Vec::new() }],
            rationale: Rationale::Optional,
            suggestions: Suggestions::Off,
            limit_total: None,
            limit_day: None,
            screening_threshold: 0.7,
            screening_items: None,
            gold_share: 0.1,
            ties: true,
            both_bad: true,
            partial_rankings: false,
            better_answers: false,
            rate_turns: false,
            confirm_in_bulk: false,
            stop_at_first_error: false,
            order: "random".into(),
            order_random_share: 0.25,
        }
    }
}

impl ProjectSettings {
    /// The lease in milliseconds.
    pub fn lease_ms(&self) -> i64 {
        i64::from(self.lease_minutes) * 60_000
    }

    /// Whether people are offered to confirm suggestions many at once: what asks for a reason is judged one by one.
    pub(crate) fn confirms_in_bulk(&self) -> bool {
        let are_shown = matches!(self.suggestions, Suggestions::Shown | Suggestions::Measured);
        self.confirm_in_bulk && are_shown && self.rationale != Rationale::Required
    }

    /// Sets one setting by its name, as a text: a number, `true` or `false`, a word, `none` for no limit; axes as the settings
    /// page has them, with semicolons between.
    ///
    /// # Errors
    ///
    /// A sentence that names the setting, what was found and what was expected. Nothing is changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let mut all = match json!(self) {
            Value::Object(all) => all,
            other => unreachable!("settings are an object, not {other}"),
        };
        let Some(known) = all.get_mut(key) else {
            let names: Vec<String> = all.keys().map(|name| format!("{name:?}")).collect();
            return Err(format!("found no setting {key:?}; expected one of {}", names.join(", ")));
        };
        *known = match (key, value.trim()) {
            ("axes", lines) => json!(parse_axes(&lines.replace(';', "\n"))?),
            (_, text) if known.is_string() => json!(text),
            (_, "none") => Value::Null,
            (_, text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        };
        let changed: Self = serde_json::from_value(Value::Object(all))
            .map_err(|error| format!("{key}: found {value:?}: {error}"))?;
        changed.check()?;
        *self = changed;
        Ok(())
    }

    /// Every setting with its value, as [`ProjectSettings::set`] takes them.
    pub fn listed(&self) -> Vec<(String, String)> {
        let Value::Object(all) = json!(self) else { return Vec::new() };
        let text = |key: &str, value: &Value| match value {
            _ if key == "axes" => axes_text(&self.axes).replace('\n', "; "),
            Value::String(text) => text.clone(),
            Value::Null => "none".into(),
            other => other.to_string(),
        };
        all.iter().map(|(key, value)| (key.clone(), text(key, value))).collect()
    }

    /// Those of a store; `None` where nobody has set any.
    ///
    /// # Errors
    ///
    /// The store cannot be read, or holds settings of another version of this program.
    pub fn of(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        let Some(document) = store.document(KIND, KEY)? else { return Ok(None) };
        serde_json::from_value(document.body).map(Some).map_err(|error| StoreError::Corrupt {
            home: store.home(),
            problem: format!("the settings of the project: {error}"),
        })
    }

    /// Puts them into a store.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub fn put(&self, store: &dyn Store) -> Result<(), StoreError> {
        store.put_document(KIND, KEY, &json!(self), Expected::Anything).map(|_| ())
    }

    /// Puts them into a store, and an entry into its audit log that `by` did so at `at`.
    ///
    /// # Errors
    ///
    /// The store cannot be written.
    pub fn put_by(&self, store: &dyn Store, by: &str, at: i64) -> Result<(), StoreError> {
        self.put(store)?;
        let action = "settings.written".to_owned();
        store.record(&Event { at, actor: by.to_owned(), action, details: json!(self) })
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
        share("the share of items at random", self.order_random_share)?;
        expect(self.screening_items != Some(0), || {
            "the number of screening items is at least 1; without screening items there is no screening"
                .into()
        })?;
        expect(self.axes.iter().all(|axis| rated(&axis.name) == (&*axis.name, None)), || {
            "the name of an axis does not end in \", turn\" and a number".into()
        })?;
        let mut names: Vec<&str> = self.axes.iter().map(|axis| axis.name.trim()).collect();
        names.sort_unstable();
        expect(names.windows(2).all(|pair| pair[0] != pair[1]), || {
            "two axes have the same name".into()
        })?;
        self.axes.iter().try_for_each(check_axis)
    }
}

/// The axis of a name in a verdict, and the turn that it speaks of: "quality, turn 2".
pub(crate) fn rated(name: &str) -> (&str, Option<usize>) {
    let parts = name.rsplit_once(", turn ");
    let turn = parts.and_then(|(axis, turn)| Some((axis, turn.parse().ok()?)));
    turn.map_or((name, None), |(axis, turn)| (axis, Some(turn)))
}

/// The axes as lines: `helpfulness: 0 to 4: bad, poor, fair, good, excellent`.
pub(crate) fn axes_text(axes: &[Axis]) -> String {
    let lines = axes.iter().map(|axis| {
        let range = format!("{}: {} to {}", axis.name, axis.min, axis.max);
        if axis.labels.is_empty() { range } else { format!("{range}: {}", axis.labels.join(", ")) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What [`axes_text`] has written, or somebody by hand.
pub(crate) fn parse_axes(text: &str) -> Result<Vec<Axis>, String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(parse_axis).collect()
}

fn parse_axis(line: &str) -> Result<Axis, String> {
    let wrong = || {
        format!(
            "an axis is a line like `helpfulness: 0 to 4` or `tone: 1 to 2: rude, kind`, found {line:?}"
        )
    };
    let mut parts = line.splitn(3, ':').map(str::trim);
    let name = parts.next().unwrap_or_default().to_owned();
    let (min, max) = parts.next().and_then(|range| range.split_once(" to ")).ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<i32>().map_err(|_| wrong());
    let labels = parts.next().map(|labels| labels.split(',').map(|label| label.trim().to_owned()));
    Ok(Axis {
        name,
        min: number(min)?,
        max: number(max)?,
        labels: labels.map(Iterator::collect).unwrap_or_default(),
    })
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

    fn problem(change: impl FnOnce(&mut ProjectSettings)) -> String {
        let mut settings = ProjectSettings::default();
        change(&mut settings);
        settings.check().unwrap_err()
    }

    #[test]
    fn the_defaults_are_in_order() {
        assert_eq!(ProjectSettings::default().check(), Ok(()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert!(problem(|s| s.overlap = 0).contains("overlap"));
        assert!(problem(|s| s.gold_share = f64::NAN).contains("gold"));
        assert!(problem(|s| s.axes[0].labels = vec!["low".into()]).contains("5 values and 1"));
        assert!(problem(|s| s.axes.push(s.axes[0].clone())).contains("same name"));
    }

    #[test]
    fn axes_survive_the_form() {
        let axes = parse_axes("helpfulness: 0 to 4\n\n tone: 1 to 2: rude, kind \n").unwrap();
        assert_eq!(
            axes[0],
            Axis { name: "helpfulness".into(), min: 0, max: 4, labels: Vec::new() }
        );
        assert_eq!(axes[1].labels, ["rude", "kind"]);
        assert_eq!(parse_axes(&axes_text(&axes)), Ok(axes));
        assert!(parse_axes("helpfulness").unwrap_err().contains("0 to 4"));
    }

    #[test]
    fn a_setting_is_set_by_its_name() {
        let mut settings = ProjectSettings::default();
        for (key, value) in [
            ("title", "3"),
            ("overlap", "3"),
            ("ties", "false"),
            ("limit_day", "200"),
            ("rationale", "required"),
            ("axes", "helpfulness: 0 to 4; tone: 1 to 2: rude, kind"),
        ] {
            settings.set(key, value).unwrap();
        }
        assert_eq!((settings.title.as_str(), settings.overlap, settings.ties), ("3", 3, false));
        assert_eq!((settings.limit_day, settings.axes.len()), (Some(200), 2));
        assert_eq!(settings.rationale, Rationale::Required);
        settings.set("limit_day", "none").unwrap();
        assert_eq!(settings.limit_day, None);
        for (key, value, says) in [
            ("overlapp", "3", "\"overlap\""),
            ("overlap", "many", "overlap"),
            ("overlap", "-1", "overlap"),
            ("gold_share", "2", "gold"),
            ("rationale", "sometimes", "required"),
            ("axes", "quality", "0 to 4"),
        ] {
            let before = settings.clone();
            let error = settings.set(key, value).unwrap_err();
            assert!(error.contains(says), "{key}={value}: {error}");
            assert_eq!(settings, before);
        }
    }

    #[test]
    fn an_unknown_setting_is_refused() {
        assert!(serde_json::from_str::<ProjectSettings>(r#"{"overlapp": 2}"#).is_err());
    }
}
