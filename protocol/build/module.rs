//! Writes the Rust module of one message.

use std::fmt::Write;

use crate::expression::{self, Condition, Context};
use crate::schema::{Field, Kind, Message, Struct, Versions};

/// The module's name: `fetch_request` for `FetchRequest`.
pub(crate) fn snake_case(name: &str) -> String {
    let mut result = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            result.push('_');
        }
        result.push(letter.to_ascii_lowercase());
        before = letter;
    }
    if matches!(
        result.as_str(),
        "type" | "match" | "move" | "ref" | "use" | "where" | "yield" | "final" | "override" | "box"
    ) {
        result.push('_');
    }
    result
}

/// The whole module, with its exports.
pub(crate) fn module(message: &Message) -> Result<String, String> {
    let mut code = String::new();
    let (module, name) = (snake_case(&message.name), &message.name);
    let _ = writeln!(code, "/// {}", summary(message));
    let _ = writeln!(code, "pub mod {module} {{\n    use super::prelude::*;");
    for group in &message.structs {
        code += &definition(message, group)?;
        code += &default_impl(message, group)?;
        let _ = writeln!(code, "    impl {} {{", group.name);
        code += &decode(message, group)?;
        code += &encode(message, group)?;
        let _ = writeln!(code, "    }}");
    }
    code += &message_impl(message);
    let _ = writeln!(code, "}}\npub use {module}::{name};");
    Ok(code)
}

fn summary(message: &Message) -> String {
    let what = match (message.kind, message.api) {
        (Kind::Request, Some(id)) => format!("Request of API {id}"),
        (Kind::Response, Some(id)) => format!("Response of API {id}"),
        (Kind::CoordinatorKey, Some(id)) => format!("Key of a coordinator's record of type {id}"),
        (Kind::CoordinatorValue, Some(id)) => format!("Value of a coordinator's record of type {id}"),
        (Kind::Header, _) => "Header".to_owned(),
        _ => "Embedded data".to_owned(),
    };
    format!("{what}, versions {}, flexible {}.", message.versions, message.flexible)
}

fn is_flexible(message: &Message) -> bool {
    !message.flexible.and(message.versions).is_empty()
}

fn definition(message: &Message, group: &Struct) -> Result<String, String> {
    let natural = natural_defaults(group)?;
    let mut code = String::new();
    let about = if group.name == message.name { summary(message) } else { format!("Part of `{}`.", message.name) };
    let derives = if natural { ", Default" } else { "" };
    let _ = writeln!(
        code,
        "    /// {about}\n    #[derive(Debug, Clone, PartialEq{derives})]\n    pub struct {} {{",
        group.name
    );
    for field in &group.fields {
        let _ = writeln!(code, "        /// {}", field_facts(field));
        let _ = writeln!(code, "        pub {}: {},", snake_case(&field.name), expression::rust_type(field));
    }
    if is_flexible(message) {
        let _ = writeln!(code, "        /// Tagged fields that this version of us does not know, kept as they came.");
        let _ = writeln!(code, "        pub unknown_tags: Vec<(u32, Bytes)>,");
    }
    code += "    }\n";
    Ok(code)
}

fn field_facts(field: &Field) -> String {
    let mut facts = format!("`{}`, versions {}", field.name, field.versions);
    if !field.nullable.is_empty() {
        let _ = write!(facts, ", null {}", field.nullable);
    }
    if let Some((tag, versions)) = field.tag {
        let _ = write!(facts, ", tag {tag} in {versions}");
    }
    if let Some(default) = &field.default {
        let _ = write!(facts, ", default {default}");
    }
    facts + if field.ignorable { ", dropped where a version lacks it." } else { "." }
}

fn natural_defaults(group: &Struct) -> Result<bool, String> {
    for field in &group.fields {
        if !expression::has_natural_default(field)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn default_impl(message: &Message, group: &Struct) -> Result<String, String> {
    if natural_defaults(group)? {
        return Ok(String::new());
    }
    let mut code =
        format!("    impl Default for {} {{\n        fn default() -> Self {{\n            Self {{\n", group.name);
    for field in &group.fields {
        let _ = writeln!(code, "                {}: {},", snake_case(&field.name), expression::default_value(field)?);
    }
    if is_flexible(message) {
        code += "                unknown_tags: Vec::new(),\n";
    }
    Ok(code + "            }\n        }\n    }\n")
}

/// The versions in which the field is a tagged field, and those in which it stands in its place.
fn tagged_and_plain(message: &Message, field: &Field) -> Result<(Versions, Condition), String> {
    let present = field.versions.and(message.versions);
    let Some((_, range)) = field.tag else { return Ok((Versions::NONE, Condition::of(present, message.versions))) };
    let tagged = range.and(present);
    if tagged == present {
        Ok((tagged, Condition::Never))
    } else if tagged.high == present.high {
        let plain = Versions { low: present.low, high: tagged.low - 1 };
        Ok((tagged, Condition::of(plain, message.versions)))
    } else {
        Err(format!("{}: a field may become tagged, but not the other way round", field.name))
    }
}

fn version_check(message: &Message, group: &Struct, receiver: char) -> String {
    if group.name != message.name {
        return String::new();
    }
    let Versions { low, high } = message.versions;
    format!("            {receiver}.check_version({:?}, version, {low}, {high})?;\n", message.name)
}

fn decode(message: &Message, group: &Struct) -> Result<String, String> {
    let mut code = String::new();
    let _ = writeln!(code, "        /// Reads the fields of a version; the reader stands behind them then.");
    let _ = writeln!(code, "        pub fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {{");
    code += &version_check(message, group, 'r');
    let flexible = Condition::of(message.flexible, message.versions);
    let _ = writeln!(code, "            let flexible = {};", flexible.code());
    let mut arms = String::new();
    for field in &group.fields {
        let (name, context) = (snake_case(&field.name), Context::new(message, group, field));
        let (tagged, plain) = tagged_and_plain(message, field)?;
        let (default, read) = (expression::default_value(field)?, context.read(field)?);
        let read_tagged = context.tagged().read(field)?;
        let binding = if tagged.is_empty() { "let" } else { "let mut" };
        let value = match plain {
            Condition::Always => read.clone(),
            Condition::Never => default,
            Condition::When(condition) => format!("if {condition} {{ {read} }} else {{ {default} }}"),
        };
        let annotation =
            if value.ends_with("None") { format!(": {}", expression::rust_type(field)) } else { String::new() };
        let _ = writeln!(code, "            {binding} {name}{annotation} = {value};");
        if let (Some((tag, _)), false) = (field.tag, tagged.is_empty()) {
            let guard = match Condition::of(tagged, message.flexible.and(message.versions)) {
                Condition::When(condition) => format!(" if {condition}"),
                _ => String::new(),
            };
            let _ = writeln!(arms, "                {tag}{guard} => {name} = {read_tagged},");
        }
    }
    if is_flexible(message) {
        code += &decode_tags(&group.name, &message.name, &arms, &flexible);
    }
    code += "            Ok(Self { ";
    for field in &group.fields {
        let _ = write!(code, "{}, ", snake_case(&field.name));
    }
    code += if is_flexible(message) { "unknown_tags })\n        }\n" } else { "})\n        }\n" };
    Ok(code)
}

fn decode_tags(group: &str, message: &str, arms: &str, flexible: &Condition) -> String {
    let label = if group == message { message.to_owned() } else { format!("{message}.{group}") };
    let read = if arms.is_empty() {
        format!("r.unknown_tags({label:?})?")
    } else {
        format!(
            "r.tags({label:?}, |r, tag| {{ match tag {{\n{arms}                _ => return Ok(false),\n            }} Ok(true) }})?"
        )
    };
    match flexible {
        Condition::Always => format!("            let unknown_tags = {read};\n"),
        _ => format!("            let unknown_tags = if flexible {{ {read} }} else {{ Vec::new() }};\n"),
    }
}

fn encode(message: &Message, group: &Struct) -> Result<String, String> {
    let mut code = String::new();
    let _ = writeln!(
        code,
        "        /// Writes the fields of a version; a value that the version cannot carry is an error."
    );
    let _ = writeln!(code, "        pub fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {{");
    code += &version_check(message, group, 'w');
    let flexible = Condition::of(message.flexible, message.versions);
    let _ = writeln!(code, "            let flexible = {};", flexible.code());
    let mut tagged_fields = Vec::new();
    for field in &group.fields {
        let (name, context) = (snake_case(&field.name), Context::new(message, group, field));
        let (tagged, plain) = tagged_and_plain(message, field)?;
        if let (Some((tag, _)), false) = (field.tag, tagged.is_empty()) {
            tagged_fields.push((tag, encode_tagged(message, group, field, tagged)?));
        }
        let absent = absent_check(message, field, &context)?;
        let write = context.write(field, &name);
        match plain {
            Condition::Always => drop(writeln!(code, "            {write}")),
            Condition::Never => drop(writeln!(code, "            {absent}")),
            Condition::When(condition) if absent.is_empty() => {
                let _ = writeln!(code, "            if {condition} {{ {write} }}");
            }
            Condition::When(condition) => {
                let _ = writeln!(code, "            if {condition} {{ {write} }} else {{ {absent} }}");
            }
        }
    }
    tagged_fields.sort_by_key(|(tag, _)| *tag);
    if is_flexible(message) {
        code += &encode_tags(message, group, &flexible, &tagged_fields);
    }
    let end =
        if group.name == message.name { format!("w.check_size({:?})", message.name) } else { "Ok(())".to_owned() };
    Ok(format!("{code}            {end}\n        }}\n"))
}

/// A statement that refuses a value where neither place nor tag exists for it; empty where it is dropped.
fn absent_check(message: &Message, field: &Field, context: &Context<'_>) -> Result<String, String> {
    let present = Condition::of(field.versions, message.versions);
    if field.ignorable || present == Condition::Always {
        return Ok(String::new());
    }
    let differs = expression::differs_from_default(field, &snake_case(&field.name))?;
    let tagged = match (field.tag, &present) {
        (Some(_), Condition::When(condition)) => format!("!({condition}) && "),
        _ => String::new(),
    };
    Ok(format!("if {tagged}{differs} {{ return Err(w.not_in_version({:?}, version)); }}", context.label))
}

fn encode_tagged(message: &Message, group: &Struct, field: &Field, tagged: Versions) -> Result<String, String> {
    let context = Context::new(message, group, field).tagged();
    let name = snake_case(&field.name);
    let differs = expression::differs_from_default(field, &name)?;
    let condition = match Condition::of(tagged, message.flexible.and(message.versions)) {
        Condition::When(condition) => format!("{condition} && {differs}"),
        _ => differs,
    };
    let (tag, write) = (field.tag.map_or(0, |(tag, _)| tag), context.write(field, &name));
    Ok(format!("if {condition} {{ w.tag(&mut tags, {tag}, |w| {{ {write} Ok(()) }})?; }}"))
}

fn encode_tags(message: &Message, group: &Struct, flexible: &Condition, fields: &[(u32, String)]) -> String {
    let label =
        if group.name == message.name { group.name.clone() } else { format!("{}.{}", message.name, group.name) };
    let write = if fields.is_empty() {
        format!("w.unknown_tags({label:?}, &self.unknown_tags)?;")
    } else {
        let known: Vec<&str> = fields.iter().map(|(_, code)| code.as_str()).collect();
        let known = known.join("\n                ");
        format!(
            "let mut tags = w.begin_tags({label:?}, &self.unknown_tags);\n                {known}\n                w.end_tags(tags)?;"
        )
    };
    match flexible {
        Condition::Always => format!("            {{ {write} }}\n"),
        _ => format!(
            "            if flexible {{\n                {write}\n            }} else if !self.unknown_tags.is_empty() {{ \
             return Err(w.not_in_version({label:?}, version)); }}\n"
        ),
    }
}

fn message_impl(message: &Message) -> String {
    let (name, Versions { low, high }) = (&message.name, message.versions);
    let flexible_from = match message.flexible.and(message.versions) {
        range if range.is_empty() => "None".to_owned(),
        range => format!("Some({})", range.low),
    };
    let (kind, api) = (format!("MessageKind::{:?}", message.kind), message.api);
    let mut code = format!(
        "    impl Message for {name} {{\n        const INFO: &'static MessageInfo = &MessageInfo {{ name: {name:?}, \
         kind: {kind}, api: {api:?}, min: {low}, max: {high}, flexible_from: {flexible_from}, decode: decode_boxed::<{name}> }};\n        \
         fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError> {{ {name}::decode(r, version) }}\n        \
         fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {{ {name}::encode(self, w, version) }}\n    }}\n"
    );
    if let (Kind::Request, Some(base)) = (message.kind, name.strip_suffix("Request")) {
        let _ = writeln!(
            code,
            "    impl Request for {name} {{\n        const KEY: ApiKey = ApiKey::{base};\n        type Response = super::{base}Response;\n    }}"
        );
    }
    code
}
