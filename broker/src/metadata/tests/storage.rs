//! openraft's own conformance suite, against our log and state machine.

use openraft::testing::{StoreBuilder, Suite};

use super::entry::{StorageError, TypeConfig};
use super::*;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let folder = TempDir::new().unwrap();
        let (file, mut contents) = RaftFile::open(folder.path(), NODE).unwrap();
        let (writer, file, _thread) = Writer::start(file).unwrap();
        let disk = Disk { file, writer: writer.clone(), snapshot_bytes: Arc::default() };
        let machine = StateMachine::new(contents.snapshot.take(), Arc::new(Images::new()), disk).unwrap();
        Ok((folder, LogStore::new(contents, writer), machine))
    }
}

#[test]
fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).unwrap();
}
