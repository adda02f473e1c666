//! Values like JSON of an exact size, varied, which zstd takes to about a quarter; all made before the clock starts.
//!
//! The same shape as in `cold-tier/benches/archive.rs`: ids, numbers, enumerations and some text.

use std::fmt::Write;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// More bytes than a segment of 128 MiB holds, so that no codec and no file sees a value twice.
const POOL_BYTES: usize = 160 << 20;
const KEY_BYTES: usize = 8;
/// From this size on a value is an order with its items; below, a reading of a sensor.
const SMALLEST_ORDER_BYTES: usize = 900;
const WORDS: [&str; 24] = [
    "order",
    "customer",
    "invoice",
    "shipment",
    "warehouse",
    "delayed",
    "confirmed",
    "berlin",
    "osaka",
    "priority",
    "standard",
    "express",
    "returned",
    "damaged",
    "partial",
    "payment",
    "pending",
    "captured",
    "refund",
    "courier",
    "pallet",
    "carton",
    "signed",
    "window",
];

/// Keys and values, one behind the other.
pub(crate) struct Values {
    values: Vec<u8>,
    keys: Vec<u8>,
    value_bytes: usize,
    count: usize,
}

impl Values {
    /// At most as many as `wanted`; for more the same ones come again.
    pub(crate) fn new(value_bytes: usize, wanted: u64, seed: u64) -> Self {
        let value_bytes = value_bytes.max(1);
        let fitting = (POOL_BYTES / value_bytes).max(1);
        let count = usize::try_from(wanted).unwrap_or(fitting).clamp(1, fitting);
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut values = Vec::with_capacity(count * value_bytes);
        let mut keys = String::with_capacity(count * KEY_BYTES);
        let mut text = String::new();
        for number in 0..count {
            text.clear();
            write_value(&mut text, &mut rng, value_bytes, number);
            values.extend_from_slice(text.as_bytes());
            let _ = write!(keys, "k{:07}", rng.random_range(0..1_000_000));
        }
        Self { values, keys: keys.into_bytes(), value_bytes, count }
    }

    /// The key and the value of a record by its number.
    pub(crate) fn at(&self, number: u64) -> (&[u8], &[u8]) {
        let index = usize::try_from(number % self.count as u64).unwrap_or_default();
        let key = &self.keys[index * KEY_BYTES..][..KEY_BYTES];
        (key, &self.values[index * self.value_bytes..][..self.value_bytes])
    }

    /// Bytes of key and value of one record.
    pub(crate) fn record_bytes(&self) -> u64 {
        (KEY_BYTES + self.value_bytes) as u64
    }
}

fn write_value(text: &mut String, rng: &mut SmallRng, bytes: usize, number: usize) {
    if bytes >= SMALLEST_ORDER_BYTES {
        write_order(text, rng, number, 3);
        // Long names: an item less, so that what is cut to size is the note and never a field.
        if text.len() + 2 > bytes {
            text.clear();
            write_order(text, rng, number, 2);
        }
    } else {
        write_reading(text, rng, number);
    }
    // Words up to the exact size; a value that is too small for its fields ends early.
    while text.len() + 2 < bytes {
        text.push_str(word(rng));
        text.push(' ');
    }
    text.truncate(bytes.saturating_sub(2));
    text.push_str("\"}");
    text.truncate(bytes);
}

fn word(rng: &mut SmallRng) -> &'static str {
    WORDS[rng.random_range(0..WORDS.len())]
}

fn write_reading(text: &mut String, rng: &mut SmallRng, number: usize) {
    let _ = write!(
        text,
        r#"{{"id":{number},"sensor":"s-{:04}","kind":"{}","value":{}.{:02},"state":"{}","note":""#,
        rng.random_range(0..10_000),
        word(rng),
        rng.random_range(0..100),
        rng.random_range(0..100),
        ["ok", "high", "low"][rng.random_range(0..3)],
    );
}

fn write_order(text: &mut String, rng: &mut SmallRng, number: usize, items: usize) {
    let _ = write!(
        text,
        r#"{{"event_id":"{:032x}","event_type":"order.{}","sequence":{number},"created_at":"2024-05-{:02}T{:02}:{:02}:{:02}.{:03}Z","#,
        rng.random::<u128>(),
        word(rng),
        rng.random_range(1..29),
        rng.random_range(0..24),
        rng.random_range(0..60),
        rng.random_range(0..60),
        rng.random_range(0..1000),
    );
    let _ = write!(
        text,
        r#""customer":{{"customer_id":{},"first_name":"{}","last_name":"{}","email":"{}.{}@example.com","loyalty_level":"{}"}},"items":["#,
        rng.random_range(0..5_000_000),
        word(rng),
        word(rng),
        word(rng),
        word(rng),
        ["none", "silver", "gold"][rng.random_range(0..3)],
    );
    for item in 0..items {
        text.push_str(if item == 0 { "" } else { "," });
        let _ = write!(
            text,
            r#"{{"article_number":"A-{:08}","description":"{} {}","quantity":{},"unit_price":{}.{:02},"currency":"EUR","warehouse":"{}"}}"#,
            rng.random_range(0..100_000_000),
            word(rng),
            word(rng),
            rng.random_range(1..10),
            rng.random_range(0..1000),
            rng.random_range(0..100),
            word(rng),
        );
    }
    let _ = write!(
        text,
        r#"],"payment":{{"method":"card","authorization":"{:016x}","amount":{}.{:02},"status":"captured"}},"trace_id":"{:032x}","session":"{:032x}","signature":"{:032x}{:032x}{:032x}","note":""#,
        rng.random::<u64>(),
        rng.random_range(0..10_000),
        rng.random_range(0..100),
        rng.random::<u128>(),
        rng.random::<u128>(),
        rng.random::<u128>(),
        rng.random::<u128>(),
        rng.random::<u128>(),
    );
}
