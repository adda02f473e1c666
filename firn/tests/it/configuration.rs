//! What the program says to a wrong option, setting, variable or file, and what it prints about settings.

use std::fs;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{failed, firn, run_with, succeeded};

fn run(arguments: &[&str]) -> Output {
    run_with(firn(arguments), b"")
}

#[test]
fn a_wrong_option_or_setting_is_named_with_its_nearest() {
    assert!(failed(&run(&["server", "--lisen", "x"]), 2).contains("'--listen'"));
    assert!(failed(&run(&["sever"]), 2).contains("'server'"));
    let reason = failed(&run(&["server", "--set", "segment.byte=1"]), 2);
    assert_eq!(reason, "firn: unknown setting \"segment.byte\", did you mean \"segment.bytes\"?\n");
    assert!(failed(&run(&["server", "--set", "segment.bytes=12"]), 2).contains("1024"));
    assert!(failed(&run(&["server", "--listen", "9092"]), 2).contains("HOST:PORT"));
}

#[test]
fn a_wrong_variable_is_named_with_its_nearest() {
    let mut command = firn(&["server"]);
    command.env("FIRN_LISTN", "127.0.0.1:0");
    let reason = failed(&run_with(command, b""), 2);
    assert_eq!(reason, "firn: unknown environment variable \"FIRN_LISTN\", did you mean \"FIRN_LISTEN\"?\n");
    let mut command = firn(&["server"]);
    command.env("FIRN_SETTING_NUM_PARTITIONS", "many");
    assert!(failed(&run_with(command, b""), 2).contains("num.partitions=many"));
}

#[test]
fn a_wrong_key_in_the_file_is_named_with_its_nearest() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("firn.toml");
    let refused = |text: &str| {
        fs::write(&path, text).unwrap();
        failed(&run(&["server", "--config", path.to_str().unwrap()]), 2)
    };
    assert!(refused("lissten = \"a:1\"").contains("did you mean \"listen\"?"));
    assert!(refused("[settings]\nnum.partition = 3").contains("did you mean \"num.partitions\"?"));
    assert!(refused("listen = ").contains("is not valid TOML"));
    let missing = folder.path().join("missing.toml");
    assert!(failed(&run(&["server", "--config", missing.to_str().unwrap()]), 2).contains("missing.toml"));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("firn.toml");
    fs::write(&path, "[settings]\n\"segment.bytes\" = 1\n").unwrap();
    let mut command = firn(&["server", "--config", path.to_str().unwrap()]);
    command.env("FIRN_SETTING_SEGMENT_BYTES", "2");
    assert!(failed(&run_with(command, b""), 2).contains("segment.bytes=2"));
    let mut command = firn(&["server", "--config", path.to_str().unwrap(), "--set", "segment.bytes=3"]);
    command.env("FIRN_SETTING_SEGMENT_BYTES", "2");
    assert!(failed(&run_with(command, b""), 2).contains("segment.bytes=3"));
}

#[test]
fn settings_are_printed_with_defaults_and_meanings() {
    let text = succeeded(run(&["settings"]));
    assert!(text.contains("num.partitions") && text.contains("local.retention.ms"), "{text}");
    assert_eq!(succeeded(run(&["server", "--help-settings"])), text);
    let json: Value = serde_json::from_str(&succeeded(run(&["settings", "--json"]))).unwrap();
    let segment = json["topic"].as_array().unwrap().iter().find(|setting| setting["name"] == "segment.bytes").unwrap();
    assert_eq!(
        (&segment["default"], &segment["broker_defaults"][0]),
        (&"134217728".into(), &"log.segment.bytes".into())
    );
}
