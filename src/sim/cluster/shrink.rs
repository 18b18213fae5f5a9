//! From a run that fails to one that fails with less.

use super::plan::Planned;
use super::{Cluster, Failure};

impl Cluster {
    /// Leaves out faults as long as the run still fails, at most so many runs. The seed stays.
    #[must_use]
    pub fn shrink(&self, failure: Failure, runs_max: u32) -> Failure {
        let (mut least, mut runs) = (failure, 0);
        // What begins after the failure has no part in it.
        let step = least.step;
        least.faults.retain(|(begins, _)| *begins <= step);
        let mut size = least.faults.len().div_ceil(2);
        while size > 0 && runs < runs_max {
            let mut at = 0;
            let mut shrunk = false;
            while at < least.faults.len() && runs < runs_max {
                let fewer: Vec<Planned> =
                    least.faults.iter().enumerate().filter(|(nth, _)| !(at..at + size).contains(nth)).map(|(_, fault)| *fault).collect();
                runs += 1;
                match self.run_with(least.seed, &fewer) {
                    Err(failure) => (least, shrunk) = (failure, true),
                    Ok(_) => at += size,
                }
            }
            size = if size == 1 && !shrunk { 0 } else { (size / 2).max(1) };
        }
        least
    }
}
