//! Reads a section out of a table with serde. Complaints name the key, from the outermost section in.
//!
//! Two things are said with TOML that serde's derived implementations do not know by themselves:
//! - an enum with fields is a table whose key `kind` says which variant it is;
//! - a field with the name [`REST`] gets the keys that the other fields leave.

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

use super::error::{Complaint, one_of};
use super::secret;

/// The name of a field that gets what the others leave.
pub(super) const REST: &str = "*";
/// The key that says which variant of an enum a table is.
const KIND: &str = "kind";
/// The largest count in a configuration. The product of two (prompts and completions, epochs and
/// minibatches) is still far from overflowing.
const COUNT_MAX: i64 = 1_000_000_000;

/// A value, or some keys of a table.
pub(super) enum Reader<'a> {
    Value(&'a Value),
    Keys(Vec<(&'a str, &'a Value)>),
}

impl<'a> Reader<'a> {
    /// All keys of a table.
    pub(super) fn of(table: &'a Table) -> Self {
        Self::Keys(table.iter().map(|(key, value)| (key.as_str(), value)).collect())
    }

    /// The keys of a section, or what is there instead.
    fn keys(self) -> Result<Vec<(&'a str, &'a Value)>, &'a Value> {
        match self {
            Self::Keys(keys) => Ok(keys),
            Self::Value(Value::Table(table)) => {
                Ok(table.iter().map(|(k, v)| (k.as_str(), v)).collect())
            }
            Self::Value(other) => Err(other),
        }
    }
}

/// A value as errors show it.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => secret::text(text),
        Value::Integer(number) => format!("the integer {number}"),
        Value::Float(number) => format!("the number {number}"),
        Value::Boolean(flag) => format!("{flag}"),
        Value::Datetime(date) => format!("the date {date}"),
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Table(_) => "a table".to_owned(),
    }
}

/// Says what the value is where a complaint of it does not.
fn of_value(complaint: Complaint, value: &Value) -> Complaint {
    match complaint {
        Complaint::Unexpected { key, found, expected } if key.is_empty() && found.is_empty() => {
            Complaint::Unexpected { key, found: shown(value), expected }
        }
        other => other,
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Complaint;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        match self {
            Self::Keys(keys) => visitor.visit_map(SectionFields::new(keys, Vec::new())),
            Self::Value(value) => match value {
                Value::String(text) => visitor.visit_borrowed_str(text),
                Value::Integer(number) => visitor.visit_i64(*number),
                Value::Float(number) => visitor.visit_f64(*number),
                Value::Boolean(flag) => visitor.visit_bool(*flag),
                Value::Datetime(date) => visitor.visit_string(date.to_string()),
                Value::Array(values) => visitor.visit_seq(Items { values, next: 0 }),
                Value::Table(table) => Self::of(table).deserialize_any(visitor),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Complaint> {
        match &self {
            Self::Keys(keys) if keys.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        let keys = self.keys();
        let keys =
            keys.map_err(|other| Complaint::unexpected("", shown(other), "a section of keys"))?;
        let has_rest = fields.contains(&REST);
        let (own, rest) = keys.into_iter().partition(|(key, _)| !has_rest || fields.contains(key));
        let mut fields = SectionFields::new(own, rest);
        fields.rest_is_due = has_rest;
        visitor.visit_map(fields)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        if let Self::Value(Value::String(name)) = self {
            return visitor.visit_enum(StrDeserializer::new(name));
        }
        let expected = one_of(variants);
        let keys = self.keys();
        let keys = keys.map_err(|other| Complaint::unexpected("", shown(other), &expected))?;
        let (kind, rest): (Vec<_>, _) = keys.into_iter().partition(|(key, _)| *key == KIND);
        match kind.first() {
            None => Err(Complaint::missing(KIND, &expected)),
            Some((_, Value::String(kind))) => visitor.visit_enum(Tagged { kind, rest }),
            Some((_, other)) => Err(Complaint::unexpected(KIND, shown(other), &expected)),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

/// The keys of a section one by one, and then what they leave.
struct SectionFields<'a> {
    keys: std::vec::IntoIter<(&'a str, &'a Value)>,
    value: Option<(&'a str, &'a Value)>,
    rest: Vec<(&'a str, &'a Value)>,
    rest_is_due: bool,
}

impl<'a> SectionFields<'a> {
    fn new(keys: Vec<(&'a str, &'a Value)>, rest: Vec<(&'a str, &'a Value)>) -> Self {
        Self { keys: keys.into_iter(), value: None, rest, rest_is_due: false }
    }
}

impl<'de> MapAccess<'de> for SectionFields<'de> {
    type Error = Complaint;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Complaint> {
        self.value = self.keys.next();
        let key = match self.value {
            Some((key, _)) => key,
            None if std::mem::take(&mut self.rest_is_due) => REST,
            None => return Ok(None),
        };
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Complaint> {
        let Some((key, value)) = self.value else {
            return seed.deserialize(Reader::Keys(std::mem::take(&mut self.rest)));
        };
        if let Value::Integer(count) = value
            && COUNT_MAX < *count
            && key != "seed"
        {
            return Err(Complaint::unexpected(key, count, &format!("at most {COUNT_MAX}")));
        }
        let read = seed.deserialize(Reader::Value(value));
        read.map_err(|complaint| of_value(complaint, value).within(key))
    }
}

/// The values of a list.
struct Items<'a> {
    values: &'a [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Complaint;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Complaint> {
        let Some(value) = self.values.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        let read = seed.deserialize(Reader::Value(value));
        // A table has a place of its own; a number is one of its key's.
        let at = |found: Complaint| {
            if value.is_table() { found.within(&format!("[{index}]")) } else { found }
        };
        read.map(Some).map_err(|complaint| at(of_value(complaint, value)))
    }
}

/// A table that is a variant of an enum.
struct Tagged<'a> {
    kind: &'a str,
    rest: Vec<(&'a str, &'a Value)>,
}

impl<'de> EnumAccess<'de> for Tagged<'de> {
    type Error = Complaint;
    type Variant = Variant<'de>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Variant<'de>), Complaint> {
        let name = seed.deserialize(StrDeserializer::<Complaint>::new(self.kind));
        Ok((name.map_err(|complaint| complaint.within(KIND))?, Variant(self.rest)))
    }
}

/// The keys of a variant.
struct Variant<'a>(Vec<(&'a str, &'a Value)>);

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Complaint;

    fn unit_variant(self) -> Result<(), Complaint> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => {
                Err(Complaint::Unknown { key: (*key).to_owned(), hint: String::new() })
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Complaint> {
        seed.deserialize(Reader::Keys(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Complaint> {
        Reader::Keys(self.0).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Complaint> {
        Reader::Keys(self.0).deserialize_struct("", fields, visitor)
    }
}
