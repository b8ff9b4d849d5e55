//! Who may have an item, and when a judgement is taken.

use hearken_data::feedback::Judgement;
use rand::TryRng;
use rand::rngs::SysRng;

use super::{Ledger, check};
use crate::error::StoreError;
use crate::record::{Assignment, AssignmentState, Claim, Claimed, Submitted};

impl Ledger<'_> {
    pub(super) fn claim(&mut self, claim: &Claim) -> Result<Claimed, StoreError> {
        check::annotator(&claim.annotator)?;
        let (item, annotator) = (&claim.item, &claim.annotator);
        let own = self.assignment_of(item, annotator)?;
        let skipped = own.as_ref().is_some_and(|own| own.state == AssignmentState::Skipped);
        let others = self.others(item, annotator, claim.now)?;
        if skipped || self.has_judged(item, annotator)? {
            return Ok(Claimed::SeenBefore);
        }
        let held = own.as_ref().is_some_and(|own| own.expires_at > claim.now);
        if !held && others >= claim.overlap {
            return Ok(Claimed::Full);
        }
        let expires_at = claim.now.saturating_add(claim.lease_ms);
        let granted = match own {
            Some(own) if held => Assignment { expires_at, ..own },
            // The page of an assignment that has ended may still be open: what it shows stays true.
            Some(own) => Assignment {
                expires_at,
                granted_at: claim.now,
                propensity: claim.propensity,
                guidelines: claim.guidelines,
                ..own
            },
            None => Assignment {
                id: unguessable_id()?,
                item: item.clone(),
                annotator: annotator.clone(),
                presented: claim.presented.clone(),
                propensity: claim.propensity,
                guidelines: claim.guidelines,
                granted_at: claim.now,
                expires_at,
                state: AssignmentState::Live,
            },
        };
        self.put_assignment(granted.clone())?;
        Ok(Claimed::Granted(granted))
    }

    pub(super) fn renew(
        &mut self,
        id: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<bool, StoreError> {
        let live = self
            .assignment(id)?
            .filter(|it| it.state == AssignmentState::Live && it.expires_at > now);
        let Some(assignment) = live else { return Ok(false) };
        self.put_assignment(Assignment { expires_at, ..assignment })?;
        Ok(true)
    }

    pub(super) fn skip(&mut self, id: &str) -> Result<(), StoreError> {
        let assignment = self.assignment(id)?.ok_or_else(|| StoreError::no("assignment", id))?;
        match assignment.state {
            AssignmentState::Skipped => Ok(()),
            AssignmentState::Judged => Err(StoreError::Conflict(format!(
                "assignment {id:?} cannot be skipped: it was judged"
            ))),
            AssignmentState::Live => {
                self.put_assignment(Assignment { state: AssignmentState::Skipped, ..assignment })
            }
        }
    }

    pub(super) fn submit(
        &mut self,
        judgement: &Judgement,
        overlap: u32,
        now: i64,
    ) -> Result<Submitted, StoreError> {
        if let Some(place) = self.is_there(judgement)? {
            return Ok(Submitted::AlreadyThere { place });
        }
        self.check_judgement(judgement)?;
        let (item, annotator) = (&judgement.item, &judgement.annotator);
        let own = self.assignment_of(item, annotator)?;
        if let Some(id) = &judgement.assignment {
            self.check_assignment(judgement, id, own.as_ref())?;
        }
        let revises = self.check_revision(judgement)?;
        if revises.is_none() && !judgement.is_final {
            if self.has_judged(item, annotator)? {
                return Err(StoreError::Conflict(format!(
                    "{annotator:?} has judged item {item:?} before: judgement {:?} says in \
                     \"revises\" what it replaces",
                    judgement.id
                )));
            }
            let held =
                own.is_some_and(|own| own.state == AssignmentState::Live && own.expires_at > now);
            if !held && self.others(item, annotator, now)? >= overlap {
                return Ok(Submitted::LeaseLost);
            }
        }
        Ok(Submitted::Appended { place: self.append(judgement, revises)? })
    }

    /// Refuses an assignment that is not there, somebody else's, or of another item.
    fn check_assignment(
        &mut self,
        judgement: &Judgement,
        id: &str,
        own: Option<&Assignment>,
    ) -> Result<(), StoreError> {
        if own.is_some_and(|own| own.id == id) {
            return Ok(());
        }
        match self.assignment(id)? {
            None => Err(StoreError::no("assignment", id)),
            Some(other) => Err(StoreError::Invalid(format!(
                "judgement {:?} by {:?} on item {:?} names assignment {id:?}, which is item {:?} in \
                 the hands of {:?}",
                judgement.id, judgement.annotator, judgement.item, other.item, other.annotator
            ))),
        }
    }
}

/// 128 random bits of the operating system, as 32 hexadecimal digits.
fn unguessable_id() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).map_err(|error| StoreError::Unavailable {
        home: "the random numbers of the operating system".into(),
        problem: error.to_string(),
    })?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}
