//! Locks for models of concurrent code. The tests of a package use them in place of `parking_lot`'s. Outside of a model they
//! behave as those do; inside, every operation on them is a point at which `shuttle` may run another task.
//!
//! Tasks of a model share one thread of the operating system, so a lock that another task holds is waited for by running
//! others until it is free.

use std::cell::Cell;
use std::time::{Duration, Instant};

use parking_lot::WaitTimeoutResult;
pub use parking_lot::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

thread_local! {
    static IS_MODEL: Cell<bool> = const { Cell::new(false) };
}

/// Runs `model` under random schedules: `iterations` of them, the same for the same `seed`. A schedule that panics is
/// printed by shuttle.
pub fn check(seed: u64, iterations: usize, model: impl Fn() + Send + Sync + 'static) {
    let config = {
        let mut config = shuttle::Config::new();
        // Real code runs in the tasks.
        config.stack_size = 1 << 20;
        config.max_steps = shuttle::MaxSteps::FailAfter(200_000);
        config
    };
    let scheduler = shuttle::scheduler::RandomScheduler::new_from_seed(seed, iterations);
    IS_MODEL.set(true);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        shuttle::Runner::new(scheduler, config).run(model);
    }));
    IS_MODEL.set(false);
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Another task of the model may run now. Nothing outside of a model.
pub fn point() {
    if IS_MODEL.get() {
        shuttle::thread::yield_now();
    }
}

fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        point();
        if let Some(done) = attempt() {
            return done;
        }
    }
}

/// A mutex.
#[derive(Debug, Default)]
pub struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Self {
        Mutex(parking_lot::Mutex::new(value))
    }

    /// Locks it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        if IS_MODEL.get() { until(|| self.0.try_lock()) } else { self.0.lock() }
    }

    /// Locks it, unless another task has.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        point();
        self.0.try_lock()
    }
}

/// A lock of one writer or many readers.
#[derive(Debug, Default)]
pub struct RwLock<T>(parking_lot::RwLock<T>);

impl<T> RwLock<T> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        RwLock(parking_lot::RwLock::new(value))
    }

    /// Locks it for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        if IS_MODEL.get() { until(|| self.0.try_read()) } else { self.0.read() }
    }

    /// Locks it for reading, unless a writer has it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        point();
        self.0.try_read()
    }

    /// Locks it for writing.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        if IS_MODEL.get() { until(|| self.0.try_write()) } else { self.0.write() }
    }
}

/// A condition variable. In a model, waits end at any time: who waits looks at the condition again.
#[derive(Debug, Default)]
pub struct Condvar(parking_lot::Condvar);

impl Condvar {
    /// One that no task waits for.
    pub const fn new() -> Self {
        Condvar(parking_lot::Condvar::new())
    }

    /// Wakes one task.
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all tasks.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits to be woken.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if IS_MODEL.get() { let_others_run(guard) } else { self.0.wait(guard) }
    }

    /// Waits to be woken, for at most `patience`.
    pub fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, patience: Duration) {
        if IS_MODEL.get() {
            let_others_run(guard);
        } else {
            let _ = self.0.wait_for(guard, patience);
        }
    }

    /// Waits to be woken, at most until `deadline`.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, deadline: Instant) -> WaitTimeoutResult {
        if IS_MODEL.get() {
            let_others_run(guard);
            // No model waits for a time.
            return self.0.wait_until(guard, Instant::now());
        }
        self.0.wait_until(guard, deadline)
    }
}

fn let_others_run<T>(guard: &mut MutexGuard<'_, T>) {
    let mutex = MutexGuard::mutex(guard);
    MutexGuard::unlocked(guard, || {
        until(|| (!mutex.is_locked()).then_some(()));
    });
}
