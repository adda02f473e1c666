//! The tables against the official definitions of Apache Kafka, field by field, where its jars are at hand.

use std::env;
use std::path::Path;
use std::process::Command;

#[test]
fn our_tables_are_the_official_definitions() {
    let Some(jars) = env::var_os("FIRN_KAFKA_JARS") else {
        println!("not compared: set FIRN_KAFKA_JARS to a folder with Kafka's jars");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka-definitions.py");
    let output = Command::new("python3").arg(script).arg("--check").env("FIRN_KAFKA_JARS", jars).output().unwrap();
    let (report, problems) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{report}{problems}");
    assert!(report.contains("no difference"), "{report}");
}
