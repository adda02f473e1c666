//! Metrics of the process of SQL, sent to the broker, which adds them to its own: one place to scrape, and counters that survive
//! this process.
//!
//! Counters and histograms only. What was counted within [`INTERVAL`] of the end of the process is lost with it.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use serde::{Deserialize, Serialize};

use super::catalogue::{Ask, Catalogue};

/// Pause between two reports.
const INTERVAL: Duration = Duration::from_millis(100);
/// Values of a histogram that wait for a report at most; more are left out.
const MAX_VALUES: usize = 10_000;
/// All our metrics begin so.
const PREFIX: &str = "firn_";

/// A metric with its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Series {
    name: String,
    labels: Vec<(String, String)>,
}

impl Series {
    fn of(key: &Key) -> Self {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        Series { name: key.name().to_owned(), labels: labels.collect() }
    }

    fn labels(&self) -> Vec<metrics::Label> {
        self.labels.iter().map(|(name, value)| metrics::Label::new(name.clone(), value.clone())).collect()
    }
}

/// What was counted since the last report.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Changes {
    counters: Vec<(Series, u64)>,
    histograms: Vec<(Series, Vec<f64>)>,
}

impl Changes {
    /// Adds them to the metrics of this process.
    pub(crate) fn count(self) {
        let is_ours = |series: &Series| series.name.starts_with(PREFIX);
        for (series, value) in self.counters.into_iter().filter(|(series, _)| is_ours(series)) {
            metrics::counter!(series.name.clone(), series.labels()).increment(value);
        }
        for (series, values) in self.histograms.into_iter().filter(|(series, _)| is_ours(series)) {
            let histogram = metrics::histogram!(series.name.clone(), series.labels());
            values.into_iter().for_each(|value| histogram.record(value));
        }
    }
}

#[derive(Debug, Default)]
struct Counted {
    counters: BTreeMap<Series, u64>,
    histograms: BTreeMap<Series, Vec<f64>>,
}

/// The metrics of this process, until they are sent. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Meters {
    counted: Arc<Mutex<Counted>>,
    catalogue: Catalogue,
}

impl Meters {
    /// Takes what this process counts from now on, and reports it now and then.
    pub(super) fn install(catalogue: Catalogue) -> Self {
        let meters = Meters { counted: Arc::default(), catalogue };
        if metrics::set_global_recorder(Recording(Arc::clone(&meters.counted))).is_err() {
            tracing::warn!("metrics of SQL are not recorded");
        }
        let reporting = meters.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(INTERVAL).await;
                reporting.report().await;
            }
        });
        meters
    }

    /// Reports what was counted until now; the broker shows it once this is done.
    pub(super) async fn report(&self) {
        let counted = mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner));
        if counted.counters.is_empty() && counted.histograms.is_empty() {
            return;
        }
        let changes = Changes {
            counters: counted.counters.into_iter().collect(),
            histograms: counted.histograms.into_iter().collect(),
        };
        if let Err(error) = self.catalogue.ask::<bool>(Ask::Metrics(changes)).await {
            tracing::debug!(%error, "metrics are not reported");
        }
    }
}

struct Recording(Arc<Mutex<Counted>>);

impl Recorder for Recording {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(One { series: Series::of(key), counted: Arc::clone(&self.0) }))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(One { series: Series::of(key), counted: Arc::clone(&self.0) }))
    }
}

/// One metric.
#[derive(Debug)]
struct One {
    series: Series,
    counted: Arc<Mutex<Counted>>,
}

impl CounterFn for One {
    fn increment(&self, value: u64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.counters.entry(self.series.clone()).or_default() += value;
    }

    fn absolute(&self, _: u64) {}
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let values = counted.histograms.entry(self.series.clone()).or_default();
        if values.len() < MAX_VALUES {
            values.push(value);
        }
    }
}
