//! Routing: which of several pools that serve one alias a call goes to.
//!
//! The one with the fewest calls for its weight, where a pool that has the process's prefix in its
//! cache counts as having [`WARM_WORTH`] fewer. So a conversation stays where it is warm until that
//! pool is busier than the best by so many calls: to read a prefix anew costs about what a few calls
//! in front of it cost. Where a pool's server tells of its load, calls of others count as the kernel's
//! own do, and one whose KV cache is full comes last for whoever is not in that cache. A pool whose
//! circuit is open is not asked while another one is there.

/// How many calls a warm prefix outweighs.
pub(crate) const WARM_WORTH: usize = 4;

/// A pool that a call can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its share, at least 1.
    pub(crate) weight: u32,
    /// Calls that are in flight there or wait, those of others included where the server tells.
    pub(crate) calls: usize,
    /// Whether it can be asked now.
    pub(crate) admits: bool,
    /// Whether its server has no room for another prefix.
    pub(crate) is_full: bool,
    /// Whether the process's prefix is there.
    pub(crate) is_warm: bool,
}

/// The candidate that is asked; `None` where none can be. O(n).
pub(crate) fn choose(candidates: &[Candidate]) -> Option<usize> {
    let rank = |candidate: &Candidate| {
        let head_start = if candidate.is_warm { WARM_WORTH } else { 0 };
        let calls = candidate.calls.saturating_sub(head_start) as u128 + 1;
        let has_no_room = candidate.is_full && !candidate.is_warm;
        let share = (calls << 32) / u128::from(candidate.weight.max(1));
        (has_no_room, share, !candidate.is_warm)
    };
    let open = candidates.iter().enumerate().filter(|(_, candidate)| candidate.admits);
    open.min_by_key(|(_, candidate)| rank(candidate)).map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Candidate =
        Candidate { weight: 1, calls: 0, admits: true, is_full: false, is_warm: false };

    #[test]
    fn calls_are_spread_by_weight() {
        let mut pools = [Candidate { weight: 3, ..IDLE }, IDLE];
        for _ in 0..400 {
            let index = choose(&pools).expect("one can be asked");
            pools[index].calls += 1;
        }
        assert_eq!([pools[0].calls, pools[1].calls], [300, 100]);
    }

    #[test]
    fn a_warm_pool_is_left_when_it_has_more_calls_than_its_prefix_is_worth() {
        for (calls, stays) in [(WARM_WORTH - 1, true), (WARM_WORTH, true), (WARM_WORTH + 1, false)]
        {
            let warm = Candidate { calls, is_warm: true, ..IDLE };
            assert_eq!(choose(&[IDLE, warm]) == Some(1), stays, "{calls}");
        }
    }

    #[test]
    fn a_full_pool_is_asked_only_by_who_is_warm_there_or_has_no_other() {
        let (full, busy) = (Candidate { is_full: true, ..IDLE }, Candidate { calls: 99, ..IDLE });
        assert_eq!(choose(&[full, busy]), Some(1));
        assert_eq!(choose(&[Candidate { is_warm: true, ..full }, busy]), Some(0));
        assert_eq!(choose(&[full, Candidate { admits: false, ..busy }]), Some(0));
    }

    #[test]
    fn a_pool_that_cannot_be_asked_is_passed_over() {
        let shut = Candidate { admits: false, is_warm: true, ..IDLE };
        assert_eq!(choose(&[shut, Candidate { calls: 99, ..IDLE }]), Some(1));
        assert_eq!(choose(&[shut, shut]), None);
        assert_eq!(choose(&[]), None);
    }
}
