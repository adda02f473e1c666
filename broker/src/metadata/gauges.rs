//! Numbers about the metadata log, for Prometheus.

use super::Metadata;
use super::quorum::Quorum;

impl Metadata {
    /// Sets the gauges; called for every scrape.
    #[allow(clippy::cast_precision_loss, reason = "Prometheus has no integers")]
    pub(crate) fn record_gauges(&self) {
        let Quorum { leader, epoch, committed, voters, learners } = self.quorum();
        let flag = |is_so: bool| if is_so { 1.0 } else { 0.0 };
        let has_quorum = self.has_quorum();
        metrics::gauge!("firn_metadata_has_quorum").set(flag(has_quorum));
        metrics::gauge!("firn_metadata_has_leader").set(flag(leader.is_some()));
        metrics::gauge!("firn_metadata_is_leader").set(flag(leader == Some(self.node_id())));
        metrics::gauge!("firn_metadata_term").set(epoch as f64);
        metrics::gauge!("firn_metadata_last_applied").set(committed.unwrap_or_default() as f64);
        metrics::gauge!("firn_metadata_voters").set(voters.len() as f64);
        metrics::gauge!("firn_metadata_learners").set(learners.len() as f64);
        let members = || voters.iter().chain(&learners);
        let end = members().find(|member| member.node_id == self.node_id()).and_then(|member| member.log_end);
        // Only the leader knows how far the others are: elsewhere a gauge of an earlier leadership must not stay.
        for member in members().filter(|member| member.node_id != self.node_id()) {
            let lag = match (leader == Some(self.node_id()), end) {
                (true, Some(end)) => end.saturating_sub(member.log_end.unwrap_or_default()) as f64,
                _ => f64::NAN,
            };
            metrics::gauge!("firn_metadata_follower_lag", "node" => member.node_id.to_string()).set(lag);
        }
        let image = self.image();
        let (fenced, active): (Vec<_>, Vec<_>) = image.brokers().partition(|broker| broker.is_fenced);
        // Without a majority nobody is fenced any more: the numbers of before say nothing about now.
        let counted = |brokers: usize| if has_quorum { brokers as f64 } else { f64::NAN };
        metrics::gauge!("firn_brokers", "state" => "active").set(counted(active.len()));
        metrics::gauge!("firn_brokers", "state" => "fenced").set(counted(fenced.len()));
    }
}
