//! What the binary adds to a node: with the feature `sql`, topics as tables.

use broker::Extras;

/// Everything that is added; each part sees the node through the same view.
pub(super) fn extras() -> Extras {
    #[cfg_attr(not(feature = "sql"), expect(unused_mut, reason = "nothing is added"))]
    let mut extras = Extras::default();
    #[cfg(feature = "sql")]
    {
        super::lake::add(&mut extras);
        super::sql::add(&mut extras);
    }
    extras
}
