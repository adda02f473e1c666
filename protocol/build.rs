//! Generates the messages from the tables in `schemas/`: one module per table, a list of all of them, and the APIs.

use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "build/expression.rs"]
mod expression;
#[path = "build/module.rs"]
mod module;
#[path = "build/schema.rs"]
mod schema;

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed=schemas");
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?);
    let messages = load(Path::new("schemas"))?;
    let mut code = String::new();
    for message in &messages {
        code += &module::module(message)?;
    }
    code += "/// Every message there is, by name.\npub static ALL: &[&MessageInfo] = &[\n";
    for message in &messages {
        code += &format!("    <{} as Message>::INFO,\n", message.name);
    }
    code += "];\n";
    write(&out.join("messages.rs"), &code)?;
    write(&out.join("api_key.rs"), &api_keys(&read(Path::new("schemas/apis.table"))?)?)
}

/// All tables, in the order of their names.
fn load(folder: &Path) -> Result<Vec<schema::Message>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(|error| format!("{}: {error}", folder.display()))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "schema"));
    paths.sort();
    paths.iter().map(|path| schema::Message::parse(&path.display().to_string(), &read(path)?)).collect()
}

/// The enum of APIs, and what Apache Kafka does with each.
fn api_keys(table: &str) -> Result<String, String> {
    let (release, apis) = schema::parse_apis("schemas/apis.table", table)?;
    let mut variants = String::new();
    let mut facts = String::new();
    for api in &apis {
        let (id, name) = (api.id, &api.name);
        variants += &format!("    /// API {id}.\n    {name} = {id},\n");
        let versions = if api.versions.is_empty() {
            "None".to_owned()
        } else {
            format!("Some(({}, {}))", api.versions.low, api.versions.high)
        };
        let flexible = if api.flexible.is_empty() { "None".to_owned() } else { format!("Some({})", api.flexible.low) };
        facts += &format!(
            "    ApiFacts {{ key: ApiKey::{name}, name: {name:?}, kafka: {versions}, flexible_from: {flexible}, on_brokers: {} }},\n",
            api.on_brokers
        );
    }
    Ok(format!(
        "/// The APIs of Kafka, whether we speak them or not.\n#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]\n\
         #[repr(i16)]\npub enum ApiKey {{\n{variants}}}\n\n\
         /// The release of Apache Kafka that the tables describe.\npub const KAFKA_RELEASE: &str = {release:?};\n\n\
         /// Sorted by id, without gaps.\nstatic FACTS: &[ApiFacts] = &[\n{facts}];\n"
    ))
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
