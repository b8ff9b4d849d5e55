//! Server-sent events out of bytes, however these are cut.

/// An event: its name, empty where it has none, and its data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamEvent {
    pub(super) name: String,
    pub(super) data: String,
}

/// Puts events together. Lines end with `\n`, `\r\n` or `\r`; a line that starts with a colon is a
/// comment, by which servers keep a connection alive; an empty line ends an event.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    /// The last byte was `\r`: a `\n` behind it ends no further line.
    after_return: bool,
    event: StreamEvent,
    has_data: bool,
}

impl Events {
    /// Takes bytes and gives the events that they complete.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<StreamEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => events.extend(self.end_line()),
                byte => self.line.push(byte),
            }
        }
        events
    }

    /// Gives the event that the end of the stream completes, if any: not every server ends its last
    /// event with an empty line.
    pub(super) fn end(&mut self) -> Option<StreamEvent> {
        if !self.line.is_empty()
            && let Some(event) = self.end_line()
        {
            return Some(event);
        }
        self.end_event()
    }

    fn end_line(&mut self) -> Option<StreamEvent> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.end_event();
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.event.name),
            _ => {}
        }
        None
    }

    fn end_event(&mut self) -> Option<StreamEvent> {
        let event = std::mem::take(&mut self.event);
        std::mem::take(&mut self.has_data).then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\ndata: {\"a\": \"é\"}\r\n\r\nevent: ping\rdata: 1\rdata:2\r\r\
                          id: 7\n\nretry: 1\ndata: last";

    fn expected() -> Vec<StreamEvent> {
        [("", "{\"a\": \"é\"}"), ("ping", "1\n2"), ("", "last")]
            .map(|(name, data)| StreamEvent { name: name.into(), data: data.into() })
            .to_vec()
    }

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let bytes = STREAM.as_bytes();
        for size in 1..=bytes.len() {
            let mut events = Events::default();
            let mut found: Vec<StreamEvent> =
                bytes.chunks(size).flat_map(|chunk| events.push(chunk)).collect();
            found.extend(events.end());
            assert_eq!(found, expected(), "chunks of {size}");
            assert_eq!(events.end(), None);
        }
    }
}
