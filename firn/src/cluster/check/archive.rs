//! What is wrong with the archive, from a broker's admin port.

use super::Finding;
use super::causes::Cause;
use crate::archive::{partition_troubles, status_of, store_trouble};
use crate::client::Endpoint;
use crate::output::count;

pub(super) async fn examine(admin: &Endpoint) -> Vec<Finding> {
    let status = match status_of(admin).await {
        Ok(status) => status,
        Err(error) => {
            return vec![Finding::problem(
                format!("the admin port {admin} tells nothing of the archive: {error:#}"),
                "Look whether that node runs; without its admin port nothing is known of its archive.",
            )];
        }
    };
    let mut findings = Vec::new();
    if let Some(line) = store_trouble(&status) {
        findings.push(Finding::problem(
            format!("{line} (reported by {admin})"),
            "Look at the store, its credentials and the network. Nothing is lost meanwhile: local segments stay until they \
             are archived. Watch the free space of the disks.",
        )
        .cause(Cause::Store));
    }
    let troubles = partition_troubles(&status);
    if !troubles.is_empty() {
        let because = store_trouble(&status).map(|_| Cause::Store);
        let mut finding = Finding::problem(
            format!("the archive has {} (reported by {admin})", count(troubles.len(), "trouble")),
            "Each says what failed and when it is tried again; what does not go away by itself is explained in \
                 docs/reliability.md.",
        )
        .at(troubles);
        finding.because.extend(because);
        findings.push(finding);
    }
    findings
}
