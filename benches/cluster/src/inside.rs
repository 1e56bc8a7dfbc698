//! What a node has counted of itself: sums and counts of its histograms.

use std::collections::BTreeMap;

/// The histograms of a node: what was observed, in sum, and how often.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(BTreeMap<String, (f64, f64)>);

impl Counts {
    /// Reads the text of a node's metrics.
    pub(crate) fn of(text: &str) -> Self {
        let mut counts: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for line in text.lines() {
            let Some((name, number)) = line.split_once(' ') else { continue };
            let Some(name) = name.strip_prefix("fsmdb_") else { continue };
            let Ok(number) = number.parse::<f64>() else { continue };
            if let Some(name) = name.strip_suffix("_sum") {
                counts.entry(name.to_owned()).or_default().0 = number;
            } else if let Some(name) = name.strip_suffix("_count") {
                counts.entry(name.to_owned()).or_default().1 = number;
            }
        }
        Self(counts)
    }

    /// What was observed since `before`, in sum, and how often.
    pub(crate) fn since(&self, before: &Self, name: &str) -> (f64, f64) {
        let (sum, count) = self.0.get(name).copied().unwrap_or_default();
        let (sum_before, count_before) = before.0.get(name).copied().unwrap_or_default();
        (sum - sum_before, count - count_before)
    }

    /// The mean of every histogram since `before`; of those that observed something.
    pub(crate) fn means_since(&self, before: &Self) -> BTreeMap<String, f64> {
        let means = self.0.keys().map(|name| {
            let (sum, count) = self.since(before, name);
            (name.clone(), sum / count)
        });
        means.filter(|(_, mean)| mean.is_finite()).collect()
    }
}
