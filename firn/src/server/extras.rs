//! What the binary adds to a node: with the feature `sql`, topics as tables.

use broker::Extras;

use super::logs::LogFormat;

/// Everything that is added; each part sees the node through the same view.
#[cfg_attr(not(feature = "sql"), expect(unused_variables, reason = "nothing is added"))]
pub(super) fn extras(log_format: LogFormat) -> Extras {
    #[cfg_attr(not(feature = "sql"), expect(unused_mut, reason = "nothing is added"))]
    let mut extras = Extras::default();
    #[cfg(feature = "sql")]
    {
        super::lake::add(&mut extras);
        super::sql::add(&mut extras, log_format);
    }
    extras
}
