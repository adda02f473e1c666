//! Requests of every size that share the memory.

use std::time::Duration;

use interleavings::{check, point};

use super::*;

const MIB: usize = 1 << 20;

async fn grown(memory: &RequestMemory, steps: &[usize]) -> Option<Claim> {
    let mut claim = Claim::default();
    for step in steps {
        tokio::time::timeout(Duration::from_millis(50), memory.grow(&mut claim, *step)).await.ok()?;
    }
    Some(claim)
}

#[tokio::test]
async fn claims_that_all_want_more_end_one_after_the_other() {
    let memory = RequestMemory::new(8 * MIB);
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let memory = memory.clone();
            tokio::spawn(async move {
                let mut claim = Claim::default();
                for step in 1..=6 {
                    memory.grow(&mut claim, step * MIB).await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
        })
        .collect();
    for worker in workers {
        tokio::time::timeout(Duration::from_secs(60), worker).await.expect("no deadlock").expect("no panic");
    }
    assert!(!memory.is_short());
    assert!(grown(&memory, &[6 * MIB]).await.is_some(), "everything came back");
}

#[tokio::test]
async fn small_and_medium_requests_pass_while_large_ones_hold_everything() {
    let memory = RequestMemory::new(8 * MIB);
    let held = grown(&memory, &[6 * MIB]).await.expect("there is room");
    let exceeding = grown(&memory, &[MIB, 5 * MIB]).await.expect("one may exceed the memory");
    assert!(grown(&memory, &[MIB]).await.is_none(), "but only one");
    for _ in 0..1000 {
        let small = tokio::time::timeout(Duration::from_millis(50), memory.claim_small(SMALL_BYTES));
        assert!(small.await.is_ok());
        let mut claim = Claim::default();
        let medium = memory.extend(&mut claim, SMALL_BYTES, MIB / 2);
        assert!(tokio::time::timeout(Duration::from_millis(50), medium).await.is_ok());
        assert_eq!(claim.bytes(), MIB / 2);
    }
    drop((held, exceeding));
    assert!(grown(&memory, &[MIB]).await.is_some());
}

#[tokio::test]
async fn a_request_larger_than_the_memory_is_received_all_the_same() {
    let memory = RequestMemory::new(MIB);
    let claim = grown(&memory, &[MIB / 2, 50 * MIB]).await.expect("it exceeds");
    assert_eq!(claim.bytes(), 50 * MIB);
}

#[tokio::test]
async fn requests_that_decode_into_more_than_there_is_end_one_after_the_other() {
    let memory = RequestMemory::new(8 * MIB);
    let all = memory.shared.available_permits();
    let workers: Vec<_> = (0..40)
        .map(|index| {
            let memory = memory.clone();
            tokio::spawn(async move {
                let mut claim = match index % 2 {
                    0 => memory.claim_small(SMALL_BYTES).await,
                    _ => grown(&memory, &[MIB / 2]).await.unwrap_or_default(),
                };
                memory.cover(&mut claim, 5 * MIB).await;
                assert_eq!(claim.bytes(), 5 * MIB);
                tokio::time::sleep(Duration::from_millis(5)).await;
                claim.shrink(1000);
                assert!(claim.exceeding.is_none(), "a small reply does not hold up who waits to exceed");
            })
        })
        .collect();
    for worker in workers {
        tokio::time::timeout(Duration::from_secs(60), worker).await.expect("no deadlock").expect("no panic");
    }
    assert_eq!(memory.shared.available_permits(), all, "everything came back");
}

#[tokio::test]
async fn a_claim_keeps_no_more_than_its_reply_takes() {
    let memory = RequestMemory::new(8 * MIB);
    let all = memory.shared.available_permits();
    let mut claim = grown(&memory, &[MIB]).await.expect("free");
    assert!(memory.try_cover(&mut claim, 4 * MIB));
    assert_eq!(memory.shared.available_permits(), all - 4096);
    claim.shrink(2 * MIB);
    assert_eq!(memory.shared.available_permits(), all - 2048);
    claim.shrink(0);
    assert_eq!(memory.shared.available_permits(), all);
}

/// What one client asks for, by a number: requests of every size, each received, decoded, answered.
async fn request(memory: RequestMemory, number: usize) {
    let mut claim = match number % 4 {
        0 => memory.claim_small(SMALL_BYTES).await,
        1 => {
            let mut claim = Claim::default();
            memory.extend(&mut claim, SMALL_BYTES, 60 << 10).await;
            claim
        }
        _ => {
            let mut claim = Claim::default();
            for step in [200 << 10, 400 << 10, 700 << 10] {
                memory.grow(&mut claim, step).await;
                point();
            }
            claim
        }
    };
    point();
    memory.cover(&mut claim, 500 << 10).await;
    assert!(claim.bytes() >= 500 << 10);
    point();
    match number % 3 {
        0 => claim.settle(300 << 10),
        _ => claim.shrink(1000),
    }
    point();
}

#[test]
fn no_order_of_requests_leaves_them_waiting_for_each_other() {
    check(1, 400, || {
        let memory = RequestMemory::new(MIB);
        let free = |memory: &RequestMemory| {
            [&memory.shared, &memory.small.units, &memory.medium.units, &memory.exceeding]
                .map(|share| share.available_permits())
        };
        let all = free(&memory);
        let clients: Vec<_> = (0..6)
            .map(|number| {
                let memory = memory.clone();
                shuttle::thread::spawn(move || shuttle::future::block_on(request(memory, number)))
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!(free(&memory), all, "everything came back");
        assert!(!memory.is_short());
    });
}

#[test]
fn steps_follow_what_has_come() {
    let memory = RequestMemory::new(8 * MIB);
    assert_eq!(memory.next_step(SMALL_BYTES, 100 * MIB), MIB);
    assert_eq!(memory.next_step(SMALL_BYTES, 20_000), 20_000);
    assert_eq!(memory.next_step(MIB, 100 * MIB), 4 * MIB);
    let _held = memory.shared.try_acquire_many(4 << 10).expect("free");
    assert_eq!(memory.next_step(SMALL_BYTES, 100 * MIB), SMALL_BYTES + MIB / 4);
    assert_eq!(memory.next_step(4 * MIB, 100 * MIB), 5 * MIB);
}
