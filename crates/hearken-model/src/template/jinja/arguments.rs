//! Arguments by position or by name, as Python's functions take them.

use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{Error, ErrorKind, Value};

/// The arguments of a call.
pub(super) struct Arguments {
    positional: Vec<Value>,
    named: Option<Kwargs>,
}

impl From<Rest<ValueOrKwargs>> for Arguments {
    fn from(args: Rest<ValueOrKwargs>) -> Self {
        Self::of(args.into_values())
    }
}

impl Arguments {
    /// Those of a method.
    pub(super) fn of(mut positional: Vec<Value>) -> Self {
        let named = positional.pop_if(|last| last.is_kwargs());
        Self { positional, named: named.and_then(|named| Kwargs::try_from(named).ok()) }
    }

    /// The argument at a position or of a name; `None` where it is neither, or is `none`.
    pub(super) fn get(&self, index: usize, name: &str) -> Result<Option<Value>, Error> {
        let value = match (self.positional.get(index), &self.named) {
            (Some(value), _) => Some(value.clone()),
            (None, Some(named)) => named.get::<Option<Value>>(name)?,
            (None, None) => None,
        };
        Ok(value.filter(|value| !value.is_none()))
    }

    /// An argument that is a text.
    pub(super) fn text(&self, index: usize, name: &str) -> Result<Option<String>, Error> {
        let text = |value: Value| match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(refused(format!("`{name}` is a {}, expected text", value.kind()))),
        };
        self.get(index, name)?.map(text).transpose()
    }

    /// An argument that is a number; below 0 it counts as `None`.
    pub(super) fn count(&self, index: usize, name: &str) -> Result<Option<usize>, Error> {
        let count = self.get(index, name)?.map(i64::try_from).transpose()?;
        Ok(count.and_then(|count| usize::try_from(count).ok()))
    }

    /// Whether an argument is there and true.
    pub(super) fn flag(&self, index: usize, name: &str) -> Result<bool, Error> {
        Ok(self.get(index, name)?.is_some_and(|value| value.is_true()))
    }

    /// The arguments without names.
    pub(super) fn positional(&self) -> &[Value] {
        &self.positional
    }

    /// The arguments with names.
    pub(super) fn named(&self) -> Result<Vec<(String, Value)>, Error> {
        let Some(named) = &self.named else { return Ok(Vec::new()) };
        named.args().map(|name| Ok((name.to_owned(), named.get(name)?))).collect()
    }
}

/// What a template may not do.
pub(super) fn refused(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}
