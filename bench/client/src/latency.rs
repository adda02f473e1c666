//! Percentiles of times: exact, from all of them.

use std::time::Duration;

use serde_json::{Value, json};

/// Points of the curve for plots, in percent.
const CURVE: [f64; 12] = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0];

/// Times in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<u64>);

impl Latencies {
    /// Takes one up.
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// p50, p99, p99.9, the maximum, the mean and a curve, in milliseconds.
    pub(crate) fn figures(mut self) -> Value {
        self.0.sort_unstable();
        let at = |percent: f64| -> f64 {
            let rank = (percent / 100.0 * self.0.len() as f64).ceil() as usize;
            self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default() as f64 / 1e6
        };
        let curve: Vec<Value> = CURVE.iter().map(|&percent| json!([percent, at(percent)])).collect();
        let mean = self.0.iter().sum::<u64>() as f64 / 1e6 / self.0.len().max(1) as f64;
        json!({ "p50_ms": at(50.0), "p99_ms": at(99.0), "p999_ms": at(99.9), "max_ms": at(100.0), "mean_ms": mean,
                "count": self.0.len(), "curve": curve })
    }
}
