//! Who does what.

/// The parts of some work, shared out among processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// For every process the numbers of its parts, in order.
    of: Vec<Vec<usize>>,
    rank: usize,
    parts: usize,
}

impl Shares {
    /// Parts that take so much work each: the largest first, each to the process that has the least to do
    /// (Graham 1969: at most 4⁄3 of the best there is).
    pub fn of(work: &[usize], rank: usize, size: usize) -> Self {
        let mut order: Vec<usize> = (0..work.len()).collect();
        order.sort_by_key(|&part| std::cmp::Reverse(work[part]));
        let (mut of, mut loads) = (vec![Vec::new(); size], vec![0; size]);
        for part in order {
            let least = (0..size).min_by_key(|&process| loads[process]);
            let least = least.expect("there is one process at least");
            // A part without work is one nevertheless.
            loads[least] += work[part].max(1);
            of[least].push(part);
        }
        for parts in &mut of {
            parts.sort_unstable();
        }
        Self { of, rank, parts: work.len() }
    }

    /// The numbers of this process's parts, in order.
    pub fn own(&self) -> &[usize] {
        self.of_rank(self.rank)
    }

    /// The numbers of a process's parts, in order.
    pub fn of_rank(&self, rank: usize) -> &[usize] {
        &self.of[rank]
    }

    /// What this process has of one thing per part, in order.
    ///
    /// # Panics
    /// If there are fewer things than parts.
    pub fn pick<T: Clone>(&self, all: &[T]) -> Vec<T> {
        assert_eq!(all.len(), self.parts, "one thing per part");
        self.own().iter().map(|&part| all[part].clone()).collect()
    }

    /// The same where every part is several: part by part, so many each.
    pub(super) fn unfolded(&self, counts: &[usize]) -> Self {
        let mut end = 0;
        let place = |&count: &usize| {
            end += count;
            end - count..end
        };
        let places: Vec<_> = counts.iter().map(place).collect();
        let several =
            |parts: &Vec<usize>| parts.iter().flat_map(|&part| places[part].clone()).collect();
        Self { of: self.of.iter().map(several).collect(), rank: self.rank, parts: end }
    }

    /// What the processes have of their parts, in the order of the parts.
    ///
    /// # Panics
    /// If one has more or fewer than parts.
    pub(super) fn put_together<T>(&self, found: Vec<Vec<T>>) -> Vec<T> {
        let mut all: Vec<Option<T>> = (0..self.parts).map(|_| None).collect();
        for (parts, found) in self.of.iter().zip(found) {
            assert_eq!(parts.len(), found.len(), "parts of a process, and what it has of them");
            parts.iter().zip(found).for_each(|(&part, one)| all[part] = Some(one));
        }
        all.into_iter().map(|one| one.expect("every part is somebody's")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_go_to_whoever_has_the_least_to_do() {
        let shares = |rank| Shares::of(&[2, 9, 4, 4, 1], rank, 2);
        assert_eq!(shares(0).own(), [1, 4]);
        assert_eq!(shares(1).own(), [0, 2, 3]);
        assert_eq!(
            shares(0).put_together(vec![vec!['b', 'e'], vec!['a', 'c', 'd']]),
            ['a', 'b', 'c', 'd', 'e']
        );
    }

    #[test]
    fn what_belongs_together_stays_together() {
        let shares = |rank| Shares::of(&[2, 9, 4], rank, 2).unfolded(&[2, 1, 3]);
        assert_eq!(shares(0).own(), [2]);
        assert_eq!(shares(1).own(), [0, 1, 3, 4, 5]);
        assert_eq!(shares(0).pick(&['a', 'b', 'c', 'd', 'e', 'f']), ['c']);
    }

    #[test]
    fn with_fewer_parts_than_processes_some_have_nothing() {
        let own = |rank| Shares::of(&[7, 0], rank, 4).own().to_vec();
        assert_eq!([own(0), own(1), own(2), own(3)], [vec![0], vec![1], vec![], vec![]]);
    }
}
