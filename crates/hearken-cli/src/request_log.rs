//! Events of a service as lines on standard error.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::output;

/// Writes what goes wrong in the service from here on; with `requests`, a line for each request too.
pub(crate) fn install(requests: bool) {
    let most = if requests { Level::INFO } else { Level::WARN };
    // Somebody who installed another one before wants to have the events there.
    let _ = tracing::subscriber::set_global_default(LogLines { most });
}

struct LogLines {
    /// What is more talkative than this is left out.
    most: Level,
}

impl Subscriber for LogLines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.target().starts_with("hearken")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let now = hearken_collect::system_clock()();
        let mut line = LogLine(hearken_data::calendar::time(now).replace('T', " "));
        match *event.metadata().level() {
            Level::ERROR => line.0.push_str(" error:"),
            Level::WARN => line.0.push_str(" warning:"),
            _ => {}
        }
        event.record(&mut line);
        output::say(&line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A line while its fields are added.
struct LogLine(String);

impl Visit for LogLine {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // Writing into a text does not fail.
        let _ = write!(self.0, " {}={value:.1}", field.name());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // As above. Line breaks in a value must not make two lines of one.
        let value = format!("{value:?}").replace('\n', "\\n");
        let _ = match field.name() {
            "message" => write!(self.0, " {value}"),
            name => write!(self.0, " {name}={value}"),
        };
    }
}
