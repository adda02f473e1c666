//! A cache in which every value is loaded at most once at a time, however many wait for it.
//!
//! The load runs in a task of its own, on the runtime on which the cache was made: a caller that stops waiting does not stop
//! it, and callers of different runtimes wait for the same load without depending on each other's threads.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
#[cfg(test)]
use interleavings::Mutex;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
#[cfg(not(test))]
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::error::ReadError;

/// A load that others can wait for.
pub(crate) type Load<V> = Shared<BoxFuture<'static, Result<V, ReadError>>>;

/// A cache with a weight in bytes and single loads.
pub(crate) struct Flight<K, V> {
    cache: Cache<K, V>,
    /// Loads run here; none for a cache that was made outside of a runtime: where they are asked for.
    runtime: Option<Handle>,
    loading: Arc<Mutex<HashMap<K, Load<V>>>>,
}

impl<K, V> Clone for Flight<K, V> {
    fn clone(&self) -> Self {
        Flight { cache: self.cache.clone(), runtime: self.runtime.clone(), loading: Arc::clone(&self.loading) }
    }
}

impl<K, V> fmt::Debug for Flight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").finish_non_exhaustive()
    }
}

impl<K, V> Flight<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most `capacity_bytes`; `weigh` says how many bytes a value takes.
    ///
    /// What was used longest ago goes first: an admission policy that prefers what is often used would turn away what
    /// read-ahead has just fetched.
    pub(crate) fn new(capacity_bytes: u64, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity_bytes)
            .weigher(move |_, value| u32::try_from(weigh(value)).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Flight { cache, runtime: Handle::try_current().ok(), loading: Arc::default() }
    }

    /// The value, from the cache or by `load`.
    pub(crate) async fn get<F, L>(&self, key: K, load: F) -> Result<V, ReadError>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<V, ReadError>> + Send + 'static,
    {
        if let Some(value) = self.cache.get(&key) {
            return Ok(value);
        }
        self.join(key, load).await
    }

    /// The value if it is in the cache.
    pub(crate) fn peek(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    /// The load of `key` that is under way, if any.
    pub(crate) fn under_way(&self, key: &K) -> Option<Load<V>> {
        self.loading.lock().get(key).cloned()
    }

    /// Joins the load of `key` that is under way, or starts it. A value that is in the cache by now is not loaded again.
    pub(crate) fn join<F, L>(&self, key: K, load: F) -> Load<V>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<V, ReadError>> + Send + 'static,
    {
        let mut loading = self.loading.lock();
        if let Some(load) = loading.get(&key) {
            return load.clone();
        }
        // A load leaves the list after its value is in the cache.
        if let Some(value) = self.cache.get(&key) {
            return async move { Ok(value) }.boxed().shared();
        }
        let load = load();
        let (cache, done) = (self.cache.clone(), Done { loading: Arc::clone(&self.loading), key: key.clone() });
        let runtime = self.runtime.clone().unwrap_or_else(Handle::current);
        let task = runtime.spawn(async move {
            let result = load.await;
            if let Ok(value) = &result {
                cache.insert(done.key.clone(), value.clone());
            }
            drop(done);
            result
        });
        let shared = async move { task.await.unwrap_or(Err(ReadError::Closed)) }.boxed().shared();
        loading.insert(key, shared.clone());
        shared
    }

    /// Entries in the cache, and their bytes; both lag behind a little.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.cache.entry_count(), self.cache.weighted_size())
    }

    /// Loads under way.
    pub(crate) fn loads(&self) -> usize {
        self.loading.lock().len()
    }
}

/// Takes a finished load off the list, also when it panics.
struct Done<K: Hash + Eq, V> {
    loading: Arc<Mutex<HashMap<K, Load<V>>>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Done<K, V> {
    fn drop(&mut self) {
        self.loading.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use interleavings::{check, point};

    use super::*;

    /// Schedules that each model runs under.
    const SCHEDULES: usize = 400;

    /// What the loads of a model did.
    #[derive(Default)]
    struct Loads {
        under_way: AtomicUsize,
        most_at_once: AtomicUsize,
        begun: AtomicUsize,
    }

    impl Loads {
        async fn load(self: Arc<Self>, result: Result<u8, ReadError>) -> Result<u8, ReadError> {
            self.begun.fetch_add(1, Ordering::Relaxed);
            let at_once = self.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
            point();
            tokio::task::yield_now().await;
            self.under_way.fetch_sub(1, Ordering::Relaxed);
            result
        }
    }

    /// Three threads ask for one value, and one starts its load and does not wait, while a runtime carries out the loads.
    /// Returns what the three got.
    fn ask(
        flight: &Flight<u8, u8>,
        runtime: &tokio::runtime::Runtime,
        loads: &Arc<Loads>,
        result: &Result<u8, ReadError>,
    ) -> Vec<Result<u8, ReadError>> {
        let finished = Arc::new(AtomicUsize::new(0));
        let asking = (0..4).map(|thread| {
            let (flight, loads, result, finished) =
                (flight.clone(), Arc::clone(loads), result.clone(), Arc::clone(&finished));
            shuttle::thread::spawn(move || {
                let load = move || loads.load(result);
                let got = match thread {
                    0 => {
                        drop(flight.join(1, load));
                        None
                    }
                    _ => Some(shuttle::future::block_on(flight.get(1, load))),
                };
                finished.fetch_add(1, Ordering::Relaxed);
                got
            })
        });
        let asking: Vec<_> = asking.collect();
        while finished.load(Ordering::Relaxed) < asking.len() || flight.loads() > 0 {
            runtime.block_on(tokio::task::yield_now());
            point();
        }
        asking.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    }

    /// Runs `model` with a cache whose loads a runtime carries out when the model lets it.
    fn with_cache(model: impl Fn(&Flight<u8, u8>, &tokio::runtime::Runtime) + Send + Sync + 'static) {
        check(1, SCHEDULES, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let flight = runtime.block_on(async { Flight::<u8, u8>::new(1 << 20, |_| 1) });
            model(&flight, &runtime);
        });
    }

    #[test]
    fn a_value_is_loaded_once_however_those_meet_who_ask_for_it() {
        with_cache(|flight, runtime| {
            let loads = Arc::new(Loads::default());
            let got = ask(flight, runtime, &loads, &Ok(7));
            assert!(got.iter().all(|got| matches!(got, Ok(7))), "{got:?}");
            assert_eq!(flight.peek(&1), Some(7));
            assert_eq!(loads.most_at_once.load(Ordering::Relaxed), 1);
            assert_eq!(loads.begun.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn a_load_that_fails_is_forgotten() {
        with_cache(|flight, runtime| {
            let loads = Arc::new(Loads::default());
            let got = ask(flight, runtime, &loads, &Err(ReadError::Closed));
            assert!(got.iter().all(Result::is_err), "{got:?}");
            assert_eq!(loads.most_at_once.load(Ordering::Relaxed), 1);
            assert_eq!(flight.peek(&1), None);
            let got = ask(flight, runtime, &loads, &Ok(7));
            assert!(got.iter().all(|got| matches!(got, Ok(7))), "{got:?}");
        });
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn a_load_does_not_wait_for_the_runtime_that_asked_first() {
        let (home, busy) = (runtime(), runtime());
        let flight = home.block_on(async { Flight::<u8, u8>::new(1 << 20, |_| 1) });
        let (asked, computing) = (flight.clone(), mpsc::channel::<()>());
        let load = || async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(7)
        };
        let (told, first) = mpsc::channel();
        busy.block_on(async move { told.send(asked.join(1, load)).unwrap() });
        let first = first.recv().unwrap();
        // The only thread of the runtime that asked first computes for as long as the test lasts.
        let (stop, wait) = computing;
        busy.spawn(async move { wait.recv() });
        let value = home.block_on(async { tokio::time::timeout(Duration::from_secs(30), flight.get(1, load)).await });
        assert_eq!(value.unwrap().unwrap(), 7);
        assert_eq!(home.block_on(first).unwrap(), 7);
        drop(stop);
    }
}
