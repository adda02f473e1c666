//! Turns the facts of one field into Rust expressions: its type, default, conditions, how it is read and written.
//! The expressions call `Reader` and `Writer`, which hold all the logic, so the generated code stays small.

use crate::schema::{Field, FieldType, Message, Struct, Versions};

/// Whether a range of versions holds the version at hand: known while generating, or an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// For every version of the message.
    Always,
    /// For no version of the message.
    Never,
    /// Depends on the variable `version`.
    When(String),
}

impl Condition {
    /// `version` is in `range`, given that it is in `valid`.
    pub(crate) fn of(range: Versions, valid: Versions) -> Self {
        let common = range.and(valid);
        if common.is_empty() {
            Self::Never
        } else if common == valid {
            Self::Always
        } else if common.low == valid.low {
            Self::When(format!("version <= {}", common.high))
        } else if common.high == valid.high {
            Self::When(format!("version >= {}", common.low))
        } else {
            Self::When(format!("({}..={}).contains(&version)", common.low, common.high))
        }
    }

    /// As a Rust expression of type `bool`.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Always => "true",
            Self::Never => "false",
            Self::When(expression) => expression,
        }
    }
}

/// The type of the field in Rust.
pub(crate) fn rust_type(field: &Field) -> String {
    let plain = plain_type(&field.kind);
    if is_option(field) { format!("Option<{plain}>") } else { plain }
}

fn plain_type(kind: &FieldType) -> String {
    match kind {
        FieldType::Bool => "bool".to_owned(),
        FieldType::Number(name) => (*name).to_owned(),
        FieldType::String => "Str".to_owned(),
        FieldType::Bytes => "Bytes".to_owned(),
        FieldType::Records => "Records".to_owned(),
        FieldType::Uuid => "Uuid".to_owned(),
        FieldType::Struct(name) => name.clone(),
        FieldType::Array(element) => format!("Vec<{}>", plain_type(element)),
    }
}

/// Whether the field is an `Option`: it may be null in some version. Records always may, as in Kafka.
pub(crate) fn is_option(field: &Field) -> bool {
    !field.nullable.is_empty() || field.kind == FieldType::Records
}

/// The default as an expression.
pub(crate) fn default_value(field: &Field) -> Result<String, String> {
    let null =
        field.default.as_deref() == Some("null") || (field.kind == FieldType::Records && field.default.is_none());
    if null {
        return if is_option(field) { Ok("None".to_owned()) } else { Err(format!("{} cannot be null", field.name)) };
    }
    let value = match (&field.kind, field.default.as_deref()) {
        (FieldType::Bool, text) => text.unwrap_or("false").to_owned(),
        (FieldType::Number("f64"), text) => format!("{}_f64", text.unwrap_or("0")),
        (FieldType::Number(_), text) => text.unwrap_or("0").to_owned(),
        (FieldType::String, None) => "Str::default()".to_owned(),
        (FieldType::String, Some(text)) => format!("Str::from_static({text:?})"),
        (FieldType::Bytes, None) => "Bytes::new()".to_owned(),
        (FieldType::Uuid, None) => "Uuid::nil()".to_owned(),
        (FieldType::Struct(name), None) => format!("{name}::default()"),
        (FieldType::Array(_), None) => "Vec::new()".to_owned(),
        (_, Some(text)) => return Err(format!("{}: no default `{text}` for this type", field.name)),
        (FieldType::Records, None) => return Err(format!("{}: records default to null", field.name)),
    };
    Ok(if is_option(field) { format!("Some({value})") } else { value })
}

/// Whether `#[derive(Default)]` gives the field the right default.
pub(crate) fn has_natural_default(field: &Field) -> Result<bool, String> {
    let value = default_value(field)?;
    Ok(matches!(value.as_str(), "None" | "false" | "0" | "0_f64")
        || (value.ends_with("()") && !value.starts_with("Some")))
}

/// An expression of type `bool`: the field differs from its default.
pub(crate) fn differs_from_default(field: &Field, name: &str) -> Result<String, String> {
    let default = default_value(field)?;
    Ok(match (&field.kind, default.as_str()) {
        (_, "None") => format!("self.{name}.is_some()"),
        (FieldType::Bool, "false") => format!("self.{name}"),
        (FieldType::Bool, _) => format!("!self.{name}"),
        (
            FieldType::String | FieldType::Bytes | FieldType::Array(_),
            "Str::default()" | "Bytes::new()" | "Vec::new()",
        ) => {
            format!("!self.{name}.is_empty()")
        }
        (FieldType::String | FieldType::Bytes | FieldType::Array(_), _) if default.ends_with("())") => {
            format!("self.{name}.as_ref().is_none_or(|value| !value.is_empty())")
        }
        (FieldType::Uuid, _) => format!("!self.{name}.is_nil()"),
        _ => format!("self.{name} != {default}"),
    })
}

/// What the expressions of one field need to know.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The message that the field belongs to.
    pub(crate) message: &'a Message,
    /// `Message.Struct.Field`, for errors.
    pub(crate) label: String,
    /// An expression of type `bool`: lengths are compact here.
    pub(crate) flexible: String,
    /// When the field may be null.
    pub(crate) nullable: Condition,
    /// Whether the value stands in a tagged field, where Kafka marks a struct that is null in another way.
    pub(crate) is_tagged: bool,
}

impl<'a> Context<'a> {
    /// The context of a field of `group`.
    pub(crate) fn new(message: &'a Message, group: &Struct, field: &Field) -> Self {
        let label = if group.name == message.name {
            format!("{}.{}", message.name, field.name)
        } else {
            format!("{}.{}.{}", message.name, group.name, field.name)
        };
        let flexible = match field.flexible {
            Some(range) => Condition::of(range, message.versions).code().to_owned(),
            None => "flexible".to_owned(),
        };
        let nullable = match field.nullable {
            Versions::NONE => Condition::Never,
            range => Condition::of(range, field.versions.and(message.versions)),
        };
        Self { message, label, flexible, nullable, is_tagged: false }
    }

    /// The same for the value in a tagged field.
    pub(crate) fn tagged(self) -> Self {
        Self { is_tagged: true, ..self }
    }

    /// An expression that reads the field's value, errors already propagated.
    pub(crate) fn read(&self, field: &Field) -> Result<String, String> {
        if !is_option(field) {
            return Ok(format!("{}?", self.read_plain(&field.kind, "")?));
        }
        let value = match &field.kind {
            FieldType::Struct(name) => {
                let read = format!("{name}::decode(r, version)?");
                let present = format!("r.is_present({}, {:?})?", self.is_tagged, self.label);
                return Ok(match &self.nullable {
                    Condition::Always => format!("if {present} {{ Some({read}) }} else {{ None }}"),
                    other => format!("if !({}) || {present} {{ Some({read}) }} else {{ None }}", other.code()),
                });
            }
            kind => self.read_plain(kind, "nullable_")?,
        };
        Ok(match &self.nullable {
            Condition::Always => format!("{value}?"),
            other => format!("{{ let value = {value}?; r.allow_null({}, {:?}, value)? }}", other.code(), self.label),
        })
    }

    fn read_plain(&self, kind: &FieldType, nullable: &str) -> Result<String, String> {
        let (label, flexible) = (&self.label, &self.flexible);
        Ok(match kind {
            FieldType::Bool => format!("r.bool({label:?})"),
            FieldType::Number(name) => format!("r.{name}({label:?})"),
            FieldType::Uuid => format!("r.uuid({label:?})"),
            FieldType::String => format!("r.{nullable}string({flexible}, {label:?})"),
            FieldType::Bytes => format!("r.{nullable}bytes({flexible}, {label:?})"),
            FieldType::Records => format!("r.records({flexible}, {label:?})"),
            FieldType::Struct(name) => format!("{name}::decode(r, version)"),
            FieldType::Array(element) => {
                let smallest = smallest_size(self.message, element)?;
                let read = self.read_plain(element, "")?;
                format!("r.{nullable}array({flexible}, {label:?}, {smallest}, |r| {read})")
            }
        })
    }

    /// Statements that write the field's value.
    pub(crate) fn write(&self, field: &Field, name: &str) -> String {
        if !is_option(field) {
            return self.write_plain(&field.kind, &format!("self.{name}"), &format!("&self.{name}"));
        }
        let (label, flexible) = (&self.label, &self.flexible);
        let guard = match &self.nullable {
            Condition::Always => String::new(),
            other => format!("w.allow_null({}, {label:?}, version, self.{name}.is_none())?; ", other.code()),
        };
        let write = match &field.kind {
            FieldType::String => format!("w.nullable_string({flexible}, {label:?}, self.{name}.as_ref())?;"),
            FieldType::Bytes => format!("w.nullable_bytes({flexible}, {label:?}, self.{name}.as_ref())?;"),
            FieldType::Records => format!("w.records({flexible}, {label:?}, self.{name}.as_ref())?;"),
            FieldType::Struct(_) => format!(
                "if {} {{ w.presence({}, self.{name}.is_some()); }}\nif let Some(value) = &self.{name} {{ value.encode(w, version)?; }}",
                self.nullable.code(),
                self.is_tagged
            ),
            kind => format!(
                "match &self.{name} {{ None => w.null_array({flexible}), Some(values) => {{ {} }} }}",
                self.write_plain(kind, "values", "values")
            ),
        };
        guard + &write
    }

    fn write_plain(&self, kind: &FieldType, value: &str, reference: &str) -> String {
        let (label, flexible) = (&self.label, &self.flexible);
        match kind {
            FieldType::Bool => format!("w.bool({value});"),
            FieldType::Number(name) => format!("w.{name}({value});"),
            FieldType::Uuid => format!("w.uuid({value});"),
            FieldType::String => format!("w.string({flexible}, {label:?}, {reference})?;"),
            FieldType::Bytes => format!("w.bytes({flexible}, {label:?}, {reference})?;"),
            FieldType::Records => format!("w.records({flexible}, {label:?}, Some({reference}))?;"),
            FieldType::Struct(_) => format!("{value}.encode(w, version)?;"),
            FieldType::Array(element) => format!(
                "w.array_length({flexible}, {label:?}, {value}.len())?; for element in {reference} {{ {} }}",
                self.write_plain(element, if is_copied(element) { "*element" } else { "element" }, "element")
            ),
        }
    }
}

fn is_copied(kind: &FieldType) -> bool {
    matches!(kind, FieldType::Bool | FieldType::Number(_) | FieldType::Uuid)
}

/// The least number of bytes that a value can take in any version: the bound on an array's count.
fn smallest_size(message: &Message, kind: &FieldType) -> Result<usize, String> {
    let sizes = (message.versions.low..=message.versions.high).map(|version| size_in(message, kind, version, 0));
    let smallest = sizes.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().min();
    Ok(smallest.unwrap_or(1).max(1))
}

/// The least size in one version, absent where that version has no such value.
fn size_in(message: &Message, kind: &FieldType, version: i16, depth: usize) -> Result<Option<usize>, String> {
    let flexible = message.flexible.contains(version);
    Ok(Some(match kind {
        FieldType::Bool | FieldType::Number("i8") => 1,
        FieldType::Number("i16" | "u16") => 2,
        FieldType::Number("i32" | "u32") => 4,
        FieldType::Number(_) => 8,
        FieldType::Uuid => 16,
        FieldType::String if flexible => 1,
        FieldType::String => 2,
        FieldType::Bytes | FieldType::Records | FieldType::Array(_) if flexible => 1,
        FieldType::Bytes | FieldType::Records | FieldType::Array(_) => 4,
        FieldType::Struct(name) => {
            let group = message.find(name).ok_or_else(|| format!("there is no struct {name}"))?;
            if depth > 8 {
                return Err(format!("{name} contains itself"));
            }
            let fields = group.fields.iter().filter(|field| field.versions.contains(version));
            let mut size = usize::from(flexible);
            let mut any = false;
            for field in fields.filter(|field| !field.tag.is_some_and(|(_, range)| range.contains(version))) {
                any = true;
                size += match size_in(message, &field.kind, version, depth + 1)? {
                    Some(_) if field.nullable.contains(version) && matches!(field.kind, FieldType::Struct(_)) => 1,
                    Some(bytes) => bytes,
                    None => 0,
                };
            }
            return Ok(any.then_some(size));
        }
    }))
}
