//! Real processes, killed at random instants.

use std::io::{BufRead, BufReader};
use std::process::{Command as Process, Stdio};

use super::*;

const FOLDER: &str = "FIRN_METADATA_KILL_TEST";
const KILLS: u32 = 25;
/// More kills, on a machine too slow to get anything acknowledged before the first ones.
const MAX_KILLS: u32 = 100;
const ENOUGH_ACKNOWLEDGED: usize = 20;

/// The victim: creates topics for ever and prints the name of each once it is acknowledged. Run by the test below.
#[test]
#[ignore = "runs inside of another test"]
fn victim() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = MetadataConfig {
            data_dir: folder.into(),
            node_id: NODE,
            cluster_id_if_new: None,
            listeners: vec![Listener { name: "PLAINTEXT".to_owned(), host: "localhost".to_owned(), port: 9092 }],
            rack: None,
            disk_id: None,
            topic_defaults: SettingsMap::new(),
            metadata_versions: MetadataVersions::OF_THIS_BUILD,
            snapshot_every: 10,
            place: Place::default(),
        };
        let metadata = Metadata::open(config, now()).await.unwrap();
        for i in 0.. {
            let name = format!("topic-{}-{i}", std::process::id());
            create(&metadata, &name).await;
            println!("\nacknowledged {name}");
        }
    });
}

#[test]
fn acknowledged_commands_survive_sigkill_at_any_instant() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut kill = 0;
    while kill < KILLS || (kill < MAX_KILLS && acknowledged.len() < ENOUGH_ACKNOWLEDGED) {
        kill += 1;
        let mut victim = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "metadata::tests::kills::victim", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(victim.stdout.take().unwrap());
        // From before the first start is complete up to some dozen commands, spread evenly.
        let patience = Duration::from_millis(u64::from(kill * kill) % 150 + 5 * u64::from(kill));
        let reader = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines.filter_map(|line| line.strip_prefix("acknowledged ").map(str::to_owned)).collect::<Vec<_>>()
        });
        std::thread::sleep(patience);
        victim.kill().unwrap();
        victim.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let metadata = open(&folder).await;
        let image = metadata.image();
        let missing: Vec<_> = acknowledged.iter().filter(|name| image.topic(name).is_none()).collect();
        println!("{} topics acknowledged, {} there", acknowledged.len(), image.topic_count());
        assert!(missing.is_empty(), "lost after {kill} kills: {missing:?}");
        assert!(acknowledged.len() >= ENOUGH_ACKNOWLEDGED, "the victims hardly ran: {}", acknowledged.len());
        assert!(image.topic_count() <= acknowledged.len() + kill as usize);
        metadata.close().await;
    });
}
