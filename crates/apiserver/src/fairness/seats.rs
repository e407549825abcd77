//! The pure part: who is seated, who waits, who is refused, and who is next. No clock, no locks, no waiting.
//!
//! Each level has seats that only it uses, and the part of its seats that it may lend lies in a pool that all levels use.
//! Promises: who waits does so because its level's own seats and the pool are taken; a seat that is given back goes at
//! once to who waits for it; within a level the flows take turns; of the levels that wait for the pool, the one that uses
//! least of its share is next.

use std::collections::{HashMap, VecDeque};

use super::levels::Level;

/// At most this many of one flow wait.
const FLOW_QUEUE: usize = 300;

/// Somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ticket {
    level: usize,
    number: u64,
}

/// Where a seat is from, and so where it goes back to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    level: usize,
    from_pool: bool,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Seated(Source),
    Waits(Ticket),
    Refused,
}

#[derive(Debug)]
struct State {
    level: &'static Level,
    nominal: usize,
    own: usize,
    own_used: usize,
    pool_used: usize,
    waiting: usize,
    flows: HashMap<String, VecDeque<u64>>,
    /// The flows that wait, in the order of their turns.
    turns: VecDeque<String>,
}

impl State {
    fn next(&mut self) -> Option<u64> {
        let flow = self.turns.pop_front()?;
        let queue = self.flows.get_mut(&flow)?;
        let number = queue.pop_front()?;
        self.waiting -= 1;
        if queue.is_empty() {
            self.flows.remove(&flow);
        } else {
            self.turns.push_back(flow);
        }
        Some(number)
    }

    fn is_full(&self, flow: &str) -> bool {
        self.waiting >= self.level.queue
            || self.flows.get(flow).is_some_and(|queue| queue.len() >= FLOW_QUEUE)
    }

    /// Does this level use less of its share than another?
    fn is_behind(&self, other: &Self) -> bool {
        let used = |state: &Self| state.own_used + state.pool_used;
        used(self) * other.nominal < used(other) * self.nominal
    }
}

#[derive(Debug)]
pub(super) struct Seats {
    levels: Vec<State>,
    pool: usize,
    pool_used: usize,
    numbers: u64,
}

impl Seats {
    /// Shares seats out among levels; each has at least one of its own.
    pub(super) fn new(total: usize, levels: &'static [Level]) -> Self {
        let shares: usize = levels.iter().map(|level| level.shares).sum();
        let mut pool = 0;
        let levels = levels.iter().map(|level| {
            let nominal = (total * level.shares).div_ceil(shares.max(1)).max(1);
            let lent = (nominal * level.lendable_percent / 100).min(nominal - 1);
            pool += lent;
            let (flows, turns) = (HashMap::new(), VecDeque::new());
            let own = nominal - lent;
            State { level, nominal, own, own_used: 0, pool_used: 0, waiting: 0, flows, turns }
        });
        Self { levels: levels.collect(), pool, pool_used: 0, numbers: 0 }
    }

    /// How many seats each level's share comes to.
    pub(super) fn nominal(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.levels.iter().map(|state| (state.level.name, state.nominal))
    }

    pub(super) fn arrive(&mut self, level: usize, flow: &str) -> Arrival {
        let state = &mut self.levels[level];
        if state.own_used < state.own {
            state.own_used += 1;
            return Arrival::Seated(Source { level, from_pool: false });
        }
        if self.pool_used < self.pool {
            self.pool_used += 1;
            state.pool_used += 1;
            return Arrival::Seated(Source { level, from_pool: true });
        }
        if state.is_full(flow) {
            return Arrival::Refused;
        }
        self.numbers += 1;
        state.waiting += 1;
        match state.flows.get_mut(flow) {
            Some(queue) => queue.push_back(self.numbers),
            None => {
                state.flows.insert(flow.to_owned(), VecDeque::from([self.numbers]));
                state.turns.push_back(flow.to_owned());
            }
        }
        Arrival::Waits(Ticket { level, number: self.numbers })
    }

    /// Takes a seat back; says who has it now.
    pub(super) fn leave(&mut self, source: Source) -> Option<(Ticket, Source)> {
        let state = &mut self.levels[source.level];
        if !source.from_pool {
            state.own_used -= 1;
            let number = state.next()?;
            state.own_used += 1;
            return Some((Ticket { level: source.level, number }, source));
        }
        state.pool_used -= 1;
        self.pool_used -= 1;
        let level = self.most_behind()?;
        let state = &mut self.levels[level];
        let number = state.next()?;
        state.pool_used += 1;
        self.pool_used += 1;
        Some((Ticket { level, number }, Source { level, from_pool: true }))
    }

    /// Of the levels in which somebody waits, the one that uses least of its share.
    fn most_behind(&self) -> Option<usize> {
        let waiting = (0..self.levels.len()).filter(|at| self.levels[*at].waiting > 0);
        waiting.reduce(|best, at| if self.levels[at].is_behind(&self.levels[best]) { at } else { best })
    }

    /// Forgets somebody who no longer waits.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        let state = &mut self.levels[ticket.level];
        let found = state.flows.iter_mut().find_map(|(flow, queue)| {
            let at = queue.iter().position(|number| *number == ticket.number)?;
            queue.remove(at);
            Some((flow.clone(), queue.is_empty()))
        });
        let Some((flow, empty)) = found else { return };
        state.waiting -= 1;
        if empty {
            state.flows.remove(&flow);
            state.turns.retain(|turn| *turn != flow);
        }
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.levels.iter().all(|s| s.own_used + s.pool_used + s.waiting == 0 && s.flows.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::super::levels::LEVELS;
    use super::*;

    const TWO: &[Level] = &[
        Level { name: "a", shares: 1, lendable_percent: 50, queue: 400 },
        Level { name: "b", shares: 1, lendable_percent: 50, queue: 400 },
    ];

    fn seated(arrival: Arrival) -> Source {
        match arrival {
            Arrival::Seated(source) => source,
            other => panic!("{other:?}"),
        }
    }

    fn waits(arrival: Arrival) -> Ticket {
        match arrival {
            Arrival::Waits(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn seats_are_shared_out_as_upstream_does() {
        let seats = Seats::new(600, LEVELS);
        let nominal: Vec<_> = seats.nominal().map(|(_, seats)| seats).collect();
        assert_eq!(nominal, [74, 98, 25, 98, 245, 49, 13]);
        let own: Vec<_> = seats.levels.iter().map(|s| s.own).collect();
        assert_eq!(own, [50, 74, 25, 49, 25, 25, 13]);
    }

    #[test]
    fn a_level_uses_what_others_lend_and_never_what_is_their_own() {
        let mut seats = Seats::new(8, TWO);
        let mut held: Vec<_> = (0..6).map(|_| seated(seats.arrive(0, "noisy"))).collect();
        waits(seats.arrive(0, "noisy"));
        for _ in 0..2 {
            seated(seats.arrive(1, "other"));
        }
        let other = waits(seats.arrive(1, "other"));
        let from_pool = held.iter().position(|s| s.from_pool).unwrap();
        let (next, source) = seats.leave(held.swap_remove(from_pool)).unwrap();
        assert_eq!((next, source.from_pool), (other, true), "the level that uses less of its share is next");
    }

    #[test]
    fn flows_of_a_level_take_turns() {
        let mut seats = Seats::new(2, TWO);
        let seat = seated(seats.arrive(0, "noisy"));
        let noisy: Vec<_> = (0..5).map(|_| waits(seats.arrive(0, "noisy"))).collect();
        let quiet = waits(seats.arrive(0, "quiet"));
        let (first, seat) = seats.leave(seat).unwrap();
        let (second, seat) = seats.leave(seat).unwrap();
        let (third, _) = seats.leave(seat).unwrap();
        assert_eq!((first, second, third), (noisy[0], quiet, noisy[1]));
    }

    #[test]
    fn queues_are_bounded_for_a_flow_and_for_a_level() {
        let mut seats = Seats::new(2, TWO);
        let _seat = seated(seats.arrive(0, "noisy"));
        for _ in 0..FLOW_QUEUE {
            waits(seats.arrive(0, "noisy"));
        }
        assert_eq!(seats.arrive(0, "noisy"), Arrival::Refused);
        for flow in 0..100 {
            waits(seats.arrive(0, &format!("flow-{flow}")));
        }
        assert_eq!(seats.arrive(0, "one more"), Arrival::Refused);
    }

    /// The promises of the module, held against many random histories.
    #[test]
    fn nobody_waits_while_a_seat_is_free_and_no_seat_is_lost() {
        for seed in 0..200 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut seats = Seats::new(random.random_range(0..60), LEVELS);
            let (mut held, mut waiting) = (Vec::new(), Vec::new());
            for _ in 0..500 {
                match random.random_range(0..3) {
                    0 => match seats
                        .arrive(random.random_range(0..7), &format!("{}", random.random_range(0..4)))
                    {
                        Arrival::Seated(source) => held.push(source),
                        Arrival::Waits(ticket) => waiting.push(ticket),
                        Arrival::Refused => {}
                    },
                    1 if !held.is_empty() => {
                        let seat = held.swap_remove(random.random_range(0..held.len()));
                        if let Some((ticket, source)) = seats.leave(seat) {
                            let at = waiting.iter().position(|t| *t == ticket).expect("somebody who waits");
                            waiting.swap_remove(at);
                            held.push(source);
                        }
                    }
                    _ if !waiting.is_empty() => {
                        seats.abandon(waiting.swap_remove(random.random_range(0..waiting.len())));
                    }
                    _ => {}
                }
                for state in &seats.levels {
                    let full = state.own_used == state.own && seats.pool_used == seats.pool;
                    assert!(state.waiting == 0 || full, "seed {seed}: {state:?}");
                    assert_eq!(state.waiting, state.flows.values().map(VecDeque::len).sum::<usize>());
                    assert_eq!(state.turns.len(), state.flows.len());
                }
                assert_eq!(held.len(), seats.levels.iter().map(|s| s.own_used + s.pool_used).sum::<usize>());
            }
            while let Some(seat) = held.pop() {
                held.extend(seats.leave(seat).map(|(_, source)| source));
            }
            assert!(seats.is_idle(), "seed {seed}");
        }
    }
}
