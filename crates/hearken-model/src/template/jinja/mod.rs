//! Jinja templates as Transformers renders them.
//!
//! Transformers compiles a chat template with jinja2 in an environment of its own: `trim_blocks` and
//! `lstrip_blocks`, loop controls, a `tojson` without HTML escapes, `raise_exception`, `strftime_now`
//! and the block `{% generation %}`. [`Template`] is that environment over minijinja, with Python's
//! methods, texts of numbers and JSON.
//!
//! A template is somebody else's program. It sees the variables that it is given and nothing else;
//! its steps, the bytes that it makes and its depth are counted, and it ends with an error where it
//! takes too many.
//!
//! Not here: where a model keeps its templates, and tokens.

mod arguments;
mod clock;
mod filters;
mod json;
mod methods;
mod python;
mod source;
mod tests_of_values;

use std::collections::HashSet;
use std::ops::Range;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, Value as Jinja, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, ErrorKind, State, UndefinedBehavior};
use serde_json::{Map, Value};

use self::arguments::{Arguments, refused};
use super::error::{Refused, TemplateError};

/// What the steps of a template may cost, beside [`FUEL_PER_BYTE`]: one is a step or 64 bytes made.
const FUEL: u64 = 2_000_000;
/// What every byte of the variables adds to that: a template walks through a long conversation in
/// more steps than through a short one.
const FUEL_PER_BYTE: u64 = 32;
/// How deep macros may call each other.
const RECURSION_MAX: usize = 120;
/// The most bytes of one expression or statement, its texts left out. An expression is compiled, and
/// dropped, as deep as it is nested.
const EXPRESSION_BYTES_MAX: usize = 1 << 15;
/// The stack on which a template is compiled and rendered.
const STACK_BYTES: usize = 1 << 27;
/// The name under which the template is compiled.
const NAME: &str = "chat_template";
/// What stands before and after a block `{% generation %}` until the text is done: two of Unicode's
/// noncharacters, which no text has.
const GENERATION: [char; 2] = ['\u{fdd0}', '\u{fdd1}'];

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    source: String,
    origin: String,
    marks_generation: bool,
    reads: HashSet<String>,
}

/// What a template makes of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The bytes that stand in blocks `{% generation %}`, in order.
    pub generated: Vec<Range<usize>>,
}

impl Template {
    /// Compiles `source`; `origin` is where errors say that it stands.
    ///
    /// # Errors
    ///
    /// It is no Jinja template.
    pub fn compile(source: &str, origin: impl Into<String>) -> Result<Self, TemplateError> {
        let origin = origin.into();
        let rewritten = source::rewrite(source);
        if let Some(line) = rewritten.too_long {
            let problem = format!(
                "found an expression of more than {EXPRESSION_BYTES_MAX} bytes beside its texts"
            );
            return Err(TemplateError::Syntax { origin, line: Some(line), problem });
        }
        let compiled = on_a_deep_stack(|| {
            let mut environment = environment();
            environment.add_template_owned(NAME, rewritten.text)?;
            let reads = environment.get_template(NAME)?.undeclared_variables(false);
            Ok((environment, reads))
        });
        let (environment, reads) =
            compiled.map_err(|error| TemplateError::compiling(&origin, &error))?;
        let marks_generation = rewritten.marks_generation;
        Ok(Self { environment, source: source.to_owned(), origin, marks_generation, reads })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Where it stands.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether blocks `{% generation %}` say what the assistant writes.
    pub fn marks_generation(&self) -> bool {
        self.marks_generation
    }

    /// Whether the template reads a variable of this name that it does not set itself.
    pub fn reads(&self, variable: &str) -> bool {
        self.reads.contains(variable)
    }

    /// Renders the template with `variables`; `now` is the time that it can ask for, in milliseconds
    /// since 1970 in UTC.
    ///
    /// # Errors
    ///
    /// The template refuses the variables, does something that it cannot, or does not come to an end.
    pub fn render(
        &self,
        variables: &Map<String, Value>,
        now: i64,
    ) -> Result<Rendered, TemplateError> {
        let failed = |error: &minijinja::Error| TemplateError::rendering(&self.origin, error);
        let written = serde_json::to_string(variables).unwrap_or_default();
        if self.marks_generation && written.contains(GENERATION) {
            let problem = "the conversation holds U+FDD0 or U+FDD1, which are no characters".into();
            return Err(TemplateError::Failed { origin: self.origin.clone(), line: None, problem });
        }
        let bytes = written.len() as u64;
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_BYTE * bytes));
        environment.add_function("strftime_now", move |format: &str| clock::strftime(format, now));
        let text = on_a_deep_stack(|| environment.get_template(NAME)?.render(Serde(variables)));
        let text = text.map_err(|error| failed(&error))?;
        Ok(match self.marks_generation {
            true => without_marks(&text),
            false => Rendered { text, generated: Vec::new() },
        })
    }
}

/// Runs `work` on a stack that holds what a template can nest.
fn on_a_deep_stack<T: Send>(
    work: impl FnOnce() -> Result<T, minijinja::Error> + Send,
) -> Result<T, minijinja::Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work);
        let thread =
            thread.map_err(|error| refused(format!("no thread for the template: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(refused("the template engine gave up")))
    })
}

/// Takes the marks of blocks `{% generation %}` out. Of nested ones the outermost counts.
fn without_marks(marked: &str) -> Rendered {
    let mut rendered = Rendered::default();
    let (mut depth, mut start) = (0_usize, 0);
    for part in marked.split_inclusive(GENERATION) {
        let Some(mark) = part.chars().next_back().filter(|mark| GENERATION.contains(mark)) else {
            rendered.text.push_str(part);
            break;
        };
        rendered.text.push_str(&part[..part.len() - mark.len_utf8()]);
        if mark == GENERATION[0] {
            if depth == 0 {
                start = rendered.text.len();
            }
            depth += 1;
        } else {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                rendered.generated.push(start..rendered.text.len());
            }
        }
    }
    rendered
}

/// What Transformers compiles a template in.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(RECURSION_MAX);
    environment.set_formatter(|out, _, value| match value.as_str() {
        Some(text) => Ok(out.write_str(text)?),
        None => Ok(out.write_str(&python::text(value)?)?),
    });
    environment.set_unknown_method_callback(methods::call);
    filters::add(&mut environment);
    tests_of_values::add(&mut environment);
    environment.add_function("raise_exception", |message: &str| -> Result<Jinja, _> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.to_owned())
            .with_source(Refused))
    });
    environment.add_function(source::GENERATION, generation);
    environment.add_function(source::VALUE, value);
    environment.add_function("dict", dict);
    environment
        .add_function("cycler", |items: Rest<Jinja>| minijinja_contrib::globals::cycler(items.0));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.remove_global("debug");
    environment
}

/// `dict(pairs or dictionary, **further)`.
fn dict(args: Rest<ValueOrKwargs>) -> Result<Jinja, minijinja::Error> {
    let args = Arguments::from(args);
    let mut pairs: Vec<(Jinja, Jinja)> = Vec::new();
    if let Some(first) = args.get(0, "")? {
        let is_map = first.kind() == ValueKind::Map;
        for item in first.try_iter()? {
            pairs.push(match is_map {
                true => (item.clone(), first.get_item(&item)?),
                false => match item.try_iter()?.collect::<Vec<_>>().as_slice() {
                    [key, value] => (key.clone(), value.clone()),
                    _ => return Err(refused("dict() takes pairs")),
                },
            });
        }
    }
    pairs.extend(args.named()?.into_iter().map(|(name, value)| (Jinja::from(name), value)));
    Ok(Jinja::from_pairs(pairs))
}

/// The value of `{% set … = … %}`. minijinja puts lists together on demand, for free; a list that
/// doubles again and again costs what it holds.
fn value(
    state: &mut State<'_, '_>,
    value: Jinja,
    _read: Option<Jinja>,
) -> Result<Jinja, minijinja::Error> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) && !value.is_tuple();
    let Some(len) = value.len().filter(|_| is_list) else { return Ok(value) };
    state.consume_fuel(len as u64)?;
    Ok(Jinja::from(value.try_iter()?.collect::<Vec<_>>()))
}

/// The block `{% generation %}`.
#[expect(clippy::needless_pass_by_value, reason = "minijinja gives arguments by value")]
fn generation(state: &mut State<'_, '_>, kwargs: Kwargs) -> Result<Jinja, minijinja::Error> {
    let caller: Jinja = kwargs.get("caller")?;
    let written = caller.call(state, &[])?;
    let [start, end] = GENERATION;
    Ok(Jinja::from(format!("{start}{written}{end}")))
}
