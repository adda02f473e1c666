//! The arithmetic of ranges; calls are tested from outside, over stores that fail.

use super::*;

#[test]
fn close_ranges_share_a_request_and_far_ones_do_not() {
    let gap = COALESCE_GAP_BYTES;
    let far = 100 + gap + 1;
    assert_eq!(coalesce(&[50..100, 0..10, 20..60]), vec![Range { start: 0, end: 100 }]);
    assert_eq!(coalesce(&[0..100, far..far + 5]), [0..100, far..far + 5]);
    assert_eq!(coalesce(&[0..100, far - 1..far + 5]), vec![Range { start: 0, end: far + 5 }]);
    assert_eq!(coalesce(&[]), []);
}

#[tokio::test]
async fn ranges_come_back_in_the_order_asked_for() {
    let inner = Arc::new(object_store::memory::InMemory::new());
    let store = Store::new(inner, Duration::from_secs(1), 0);
    let data: Vec<u8> = (0..2_000_000_u32).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[2]).collect();
    store.put_new("x", PutPayload::from(data.clone())).await.unwrap();
    let ranges = [1_500_000..1_500_010, 0..3, 2..9, 1_999_999..2_000_000];
    let got = store.get_ranges("x", &ranges).await.unwrap();
    for (range, bytes) in ranges.iter().zip(got) {
        assert_eq!(bytes, data[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]);
    }
    assert!(store.get_range("x", 1_999_990..2_000_001).await.is_err(), "a range beyond the end");
    assert_eq!(store.get("x", 10).await.unwrap_err().kind, StoreErrorKind::Permanent);
    assert_eq!(store.get("y", 10).await.unwrap_err().kind, StoreErrorKind::NotFound);
}

#[tokio::test]
async fn a_second_put_of_other_bytes_is_refused_and_of_equal_bytes_is_not() {
    let store = Store::new(Arc::new(object_store::memory::InMemory::new()), Duration::from_secs(1), 0);
    store.put_new("x", PutPayload::from_static(b"one")).await.unwrap();
    store.put_new("x", PutPayload::from_static(b"one")).await.unwrap();
    let error = store.put_new("x", PutPayload::from_static(b"two")).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::AlreadyExists);
    assert!(error.kind.is_certain());
}
