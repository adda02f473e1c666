//! Requests of clients with many parts (topics, partitions, resources), each of which is carried out for itself.
//!
//! They become commands of a bounded size, one after the other: the log takes other commands in between, and no entry of it
//! holds up a heartbeat. Each part gets its own outcome.

use coordinator::cluster::{ClusterError, Command, Reply};

pub(crate) use super::entry::encoded_len;
use super::{Metadata, SubmitError};

/// Bytes of the parts of one command, or one larger part.
const COMMAND_BYTES: usize = 2 << 20;

/// What came of the parts, in their order.
pub(crate) type Outcomes<O> = Vec<Result<O, SubmitError>>;

/// What the cluster answers for the parts of one command.
pub(crate) type Answered<O> = Option<Vec<Result<O, ClusterError>>>;

/// How parts become commands, and replies outcomes.
pub(crate) struct InParts<C, O> {
    /// The command for some of the parts.
    pub(crate) command: C,
    /// Takes the outcomes out of the reply; `None` when it is one to another command.
    pub(crate) outcomes: fn(Reply) -> Answered<O>,
}

impl Metadata {
    /// Hands in the parts, of which `bytes` tells what each takes in the log. After a command without a certain answer, the
    /// parts behind it are not handed in.
    pub(crate) async fn submit_in_parts<P, O, C: Fn(Vec<P>) -> Command>(
        &self,
        parts: Vec<P>,
        bytes: impl Fn(&P) -> usize,
        how: InParts<C, O>,
    ) -> Outcomes<O> {
        let mut outcomes = Vec::with_capacity(parts.len());
        let mut batches = batched(parts, bytes).into_iter();
        for batch in batches.by_ref() {
            let count = batch.len();
            let error = match self.submit((how.command)(batch)).await {
                Ok(reply) => match (how.outcomes)(reply) {
                    Some(answered) if answered.len() == count => {
                        outcomes.extend(answered.into_iter().map(|outcome| outcome.map_err(SubmitError::Refused)));
                        continue;
                    }
                    _ => SubmitError::Uncertain { reason: "the reply belongs to another command".to_owned() },
                },
                Err(error) => error,
            };
            let is_refusal = matches!(error, SubmitError::Refused(_));
            outcomes.extend((0..count).map(|_| Err(error.clone())));
            if !is_refusal {
                break;
            }
        }
        let reason = "what came before it in the request was not answered".to_owned();
        let left: usize = batches.map(|batch| batch.len()).sum();
        outcomes.extend((0..left).map(|_| Err(SubmitError::NotApplied { reason: reason.clone() })));
        outcomes
    }
}

/// The parts in their order, cut so that none of the lists but those of one part has more than [`COMMAND_BYTES`].
fn batched<P>(parts: Vec<P>, bytes: impl Fn(&P) -> usize) -> Vec<Vec<P>> {
    let (mut batches, mut batch, mut taken) = (Vec::new(), Vec::new(), 0_usize);
    for part in parts {
        let more = bytes(&part);
        if taken.saturating_add(more) > COMMAND_BYTES && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            taken = 0;
        }
        taken = taken.saturating_add(more);
        batch.push(part);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_keep_their_order_and_fill_commands_up_to_the_limit() {
        let half = COMMAND_BYTES / 2;
        let cut = |sizes: &[usize]| batched(sizes.to_vec(), |size| *size);
        assert_eq!(cut(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(cut(&[half, half, 1]), [vec![half, half], vec![1]]);
        assert_eq!(cut(&[1, COMMAND_BYTES * 3, 2]), [vec![1], vec![COMMAND_BYTES * 3], vec![2]]);
        assert_eq!(cut(&[usize::MAX, usize::MAX]).len(), 2);
    }
}
