//! One finding for each cause: what follows from it is listed below it, and not beside it.

use std::collections::BTreeSet;

use super::{Finding, Severity};

/// What other findings may follow from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// A broker is down, or its disk impaired.
    Broker(i32),
    /// The object store fails.
    Store,
}

/// The findings, each below the first that says why it is so. One that has a cause which none says stays where it is.
pub(super) fn grouped(findings: Vec<Finding>) -> Vec<Finding> {
    let (mut causes, rest): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.is.is_some());
    let known: BTreeSet<Cause> = causes.iter().filter_map(|finding| finding.is).collect();
    let mut others = Vec::new();
    for finding in rest {
        let follows = finding.severity == Severity::Problem
            && !finding.because.is_empty()
            && finding.because.iter().all(|cause| known.contains(cause));
        let mut says_why = causes.iter_mut().filter(|cause| cause.is.is_some_and(|is| finding.because.contains(&is)));
        match says_why.next().filter(|_| follows) {
            Some(cause) => cause.consequences.push(finding),
            None => others.push(finding),
        }
    }
    causes.extend(others);
    causes
}
