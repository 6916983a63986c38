//! What came of the attempts to have one command carried out, or one question answered: whether there is to be another, and
//! what its sender may be told in the end.

use super::request::{Refused, Why};

/// How often a shard may have to be read again with one command in its hands. Once more, and the command may be the cause:
/// it is refused, so that it does not keep the shard from the others.
const READ_AGAIN_MAX: u8 = 3;

/// The attempts so far.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Something was sent of which it is not known whether it was done.
    in_doubt: bool,
    read_again: u8,
    /// Why the last one that found an owner did nothing.
    last: Option<Why>,
}

impl Attempts {
    /// Takes note of a refusal by an owner, here or elsewhere. Whether he may soon answer otherwise, and asking him again can
    /// do nothing twice.
    pub fn go_on_after(&mut self, refused: Refused, is_repeatable: bool) -> bool {
        match refused {
            Refused::Unavailable(why) => {
                self.last = Some(why);
                if matches!(why, Why::ReadAgain | Why::NotRecorded) {
                    self.read_again += 1;
                }
                passes(why) && !self.is_too_much()
            }
            // Of a command that is sent again, the first sending may be what is in flight.
            Refused::KeyInFlight => self.in_doubt,
            Refused::OutcomeUnknown => {
                self.in_doubt |= is_repeatable;
                is_repeatable
            }
            Refused::NotFound
            | Refused::NotAllowed
            | Refused::Stale { .. }
            | Refused::Order(_)
            | Refused::User(_)
            | Refused::AddressTaken
            | Refused::KeyReused
            | Refused::NotOwner => false,
        }
    }

    /// Whether the shard was read again so often that the command may be the cause.
    pub fn is_too_much(&self) -> bool {
        self.read_again > READ_AGAIN_MAX
    }

    /// Takes note that the way broke after it was sent.
    pub fn put_in_doubt(&mut self) {
        self.in_doubt = true;
    }

    /// Takes note that no owner was found.
    pub fn nobody_there(&mut self) {
        self.last = None;
    }

    /// What there is to say when the time is over.
    pub fn over(&self) -> Refused {
        Refused::Unavailable(self.last.unwrap_or(Why::NoOwner))
    }

    /// What the sender of a command is told: "nothing was done" only where that is so of every attempt.
    pub fn settled<T>(&self, answer: Result<T, Refused>) -> Result<T, Refused> {
        match answer {
            Err(Refused::Unavailable(_) | Refused::NotOwner | Refused::KeyInFlight)
                if self.in_doubt =>
            {
                Err(Refused::OutcomeUnknown)
            }
            answer => answer,
        }
    }
}

/// Whether it will soon be otherwise, as the shard changes hands or is read again.
fn passes(why: Why) -> bool {
    match why {
        Why::ReadAgain | Why::NotRecorded | Why::NotConfirmed | Why::Moves => true,
        Why::QueueFull | Why::TooLate | Why::NoOwner => false,
    }
}

#[cfg(test)]
mod tests {
    use domain::{order, user};

    use super::*;

    const DONE: Result<(), Refused> = Ok(());

    /// What an owner may say, whether that is to be heard again (with a key, without one), and what is told of it when
    /// another attempt is in doubt.
    const TABLE: [(Refused, [bool; 2], Refused); 17] = {
        use Refused::{
            AddressTaken, KeyInFlight, KeyReused, NotAllowed, NotFound, NotOwner, Order,
            OutcomeUnknown, Stale, Unavailable, User,
        };
        const TOO_LATE: Refused = Order(order::Rejection::CancelledTooLate);
        const ERASED: Refused = User(user::Rejection::Erased);
        [
            (Unavailable(Why::ReadAgain), [true; 2], OutcomeUnknown),
            (Unavailable(Why::NotRecorded), [true; 2], OutcomeUnknown),
            (Unavailable(Why::NotConfirmed), [true; 2], OutcomeUnknown),
            (Unavailable(Why::Moves), [true; 2], OutcomeUnknown),
            (Unavailable(Why::QueueFull), [false; 2], OutcomeUnknown),
            (Unavailable(Why::TooLate), [false; 2], OutcomeUnknown),
            (Unavailable(Why::NoOwner), [false; 2], OutcomeUnknown),
            (NotOwner, [false; 2], OutcomeUnknown),
            (KeyInFlight, [false; 2], OutcomeUnknown),
            (OutcomeUnknown, [true, false], OutcomeUnknown),
            (KeyReused, [false; 2], KeyReused),
            (NotFound, [false; 2], NotFound),
            (Stale { current: 2 }, [false; 2], Stale { current: 2 }),
            (AddressTaken, [false; 2], AddressTaken),
            (NotAllowed, [false; 2], NotAllowed),
            (TOO_LATE, [false; 2], TOO_LATE),
            (ERASED, [false; 2], ERASED),
        ]
    };

    #[test]
    fn an_owner_is_asked_again_only_where_that_can_do_nothing_twice() {
        for (refused, again, _) in TABLE {
            for (is_repeatable, again) in [true, false].into_iter().zip(again) {
                let mut attempts = Attempts::default();
                assert_eq!(
                    attempts.go_on_after(refused, is_repeatable),
                    again,
                    "{refused}"
                );
            }
        }
    }

    #[test]
    fn nothing_was_done_is_told_only_where_that_is_so_of_every_attempt() {
        for (refused, _, told_in_doubt) in TABLE {
            let mut attempts = Attempts::default();
            assert_eq!(attempts.settled::<()>(Err(refused)), Err(refused));
            attempts.put_in_doubt();
            assert_eq!(attempts.settled::<()>(Err(refused)), Err(told_in_doubt));
            assert_eq!(attempts.settled(DONE), DONE);
        }
    }

    #[test]
    fn what_is_in_flight_may_be_the_first_sending_once_that_is_in_doubt() {
        let mut attempts = Attempts::default();
        assert!(attempts.go_on_after(Refused::OutcomeUnknown, true));
        assert!(attempts.go_on_after(Refused::KeyInFlight, true));
        assert_eq!(
            attempts.settled::<()>(Err(Refused::KeyInFlight)),
            Err(Refused::OutcomeUnknown)
        );
    }

    #[test]
    fn a_command_that_has_its_shard_read_again_and_again_is_refused() {
        let mut attempts = Attempts::default();
        let read_again = Refused::Unavailable(Why::ReadAgain);
        for _ in 0..READ_AGAIN_MAX {
            assert!(attempts.go_on_after(read_again, true));
            assert!(attempts.go_on_after(Refused::Unavailable(Why::NotConfirmed), true));
        }
        assert!(!attempts.go_on_after(read_again, true));
    }

    #[test]
    fn when_the_time_is_over_the_last_reason_is_told() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.over(), Refused::Unavailable(Why::NoOwner));
        attempts.go_on_after(Refused::Unavailable(Why::NotConfirmed), false);
        assert_eq!(attempts.over(), Refused::Unavailable(Why::NotConfirmed));
        attempts.nobody_there();
        assert_eq!(attempts.over(), Refused::Unavailable(Why::NoOwner));
    }
}
