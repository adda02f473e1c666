//! The bound on what all groups of a broker take in memory.

use super::*;

fn of_bytes(group: &str, id: &str, bytes: usize) -> JoinGroup {
    let metadata = Bytes::from(vec![0; bytes]);
    JoinGroup { group: group.into(), protocols: [Protocol { name: "range".into(), metadata }].into(), ..join("", id) }
}

fn noted(partition: i32, bytes: usize) -> CommitOffsets {
    let mut one = commit(1);
    one.group = "notes".into();
    one.offsets[0].partition = partition;
    one.offsets[0].metadata = "n".repeat(bytes).into();
    one
}

#[tokio::test]
async fn when_groups_have_used_their_memory_nothing_grows_and_all_else_goes_on() {
    let log = Arc::new(MemoryLog::new());
    let memory = GroupMemory::new(100_000);
    let groups = within(&log, memory.clone());
    until_loaded(&groups).await;
    assert_eq!(groups.join(join("", "a")).await.unwrap().generation, 1);
    sync(&groups, "a", &["a"]).await.unwrap();
    assert_eq!(groups.commit(noted(0, 4_000)).await, Ok(vec![Ok(())]));
    groups.join(of_bytes("large", "b", 80_000)).await.unwrap();

    let refused = groups.join(of_bytes("second", "c", 20_000)).await.unwrap_err();
    assert_eq!(refused.error, GroupError::CoordinatorNotAvailable);
    let mut committed = 0;
    for partition in 1..10 {
        match groups.commit(noted(partition, 4_000)).await {
            Ok(_) => committed += 1,
            Err(error) => assert_eq!(error, GroupError::CoordinatorNotAvailable),
        }
    }
    assert!(committed < 5, "{committed} more offsets were taken");
    assert_eq!(heartbeat_of(&groups, "a").await, Ok(()));
    assert_eq!(groups.commit(noted(0, 4_000)).await, Ok(vec![Ok(())]), "in the place of another");
    assert_eq!(groups.join(join("a", "")).await.unwrap().generation, 2, "a member comes back as it was");
    assert!(memory.used_bytes() <= 100_000);

    let leave = LeaveGroup { group: "large".into(), members: vec![identity("b")] };
    groups.leave(leave).await.unwrap();
    groups.join(of_bytes("second", "c", 20_000)).await.unwrap();
}

#[tokio::test]
async fn a_partition_that_is_taken_over_counts_whether_there_is_room_or_not() {
    let log = Arc::new(MemoryLog::new());
    let memory = GroupMemory::new(100_000);
    let groups = within(&log, memory.clone());
    until_loaded(&groups).await;
    for partition in 0..10 {
        groups.commit(noted(partition, 4_000)).await.unwrap();
    }
    let used = memory.used_bytes();
    assert!(used > 40_000);
    groups.resign(0);
    while memory.used_bytes() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let small = GroupMemory::new(10_000);
    let groups = within(&log, small.clone());
    until_loaded(&groups).await;
    assert_eq!(small.used_bytes(), used);
    assert_eq!(groups.offsets("notes").await.unwrap()["t"].len(), 10, "what there is, is served");
    assert_eq!(groups.commit(noted(3, 3_000)).await, Ok(vec![Ok(())]));
    assert_eq!(groups.commit(noted(10, 10)).await, Err(GroupError::CoordinatorNotAvailable));
}
