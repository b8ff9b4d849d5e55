//! Live answers: a person writes a prompt, two models (or one twice) answer side by side, and the vote
//! becomes an item with its judgement.

mod exchange;
mod stream;

use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hearken_data::feedback::{Judgement, Origin, Verdict};
use hearken_data::{Message, Role};
use minijinja::context;
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};

use self::exchange::Exchange;
use self::stream::Unanswered;
use crate::distribute::{self, Submission};
use crate::error::AppError;
use crate::label::answer::PlacedDecision;
use crate::label::item::rationale;
use crate::render::{Heading, markdown};
use crate::state::AppState;
use crate::user::CurrentUser;

/// Prompts of one conversation.
const TURNS_MAX: usize = 20;
/// Characters of one conversation.
const CHARS_MAX: usize = 50_000;

/// The page and what its script calls.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/live", get(page))
        .route("/live/stream", post(answer))
        .route("/live/vote", post(vote))
}

async fn page(State(state): State<AppState>, user: CurrentUser) -> Result<Html<String>, AppError> {
    state
        .blocking(move |state| {
            let settings = state.settings()?;
            let values = context! {
                here => "live",
                turns_max => TURNS_MAX,
                chars_max => CHARS_MAX / 2,
                ties => settings.ties,
                both_bad => settings.both_bad,
                rationale => rationale(&settings),
            };
            state.page(&user, "live.html", values)
        })
        .await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveQuestion {
    /// What the person says; only the last message counts where `after` is there.
    conversation: Vec<Message>,
    /// The exchange that was judged before: the conversation goes on from it.
    #[serde(default)]
    after: Option<String>,
}

/// Streams two answers to a conversation that ends with a prompt.
async fn answer(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(asked): Json<LiveQuestion>,
) -> Result<Response, AppError> {
    if state.parts().answerers.is_empty() {
        return Err(AppError::NotFound("no model answers in this project".into()));
    }
    let annotator = user.annotator.clone();
    let conversation = state.blocking(move |state| conversation(state, &annotator, asked)).await?;
    let seat = state.limits().spend_live(&user.annotator)?;
    let presented = if rand::rng().next_u32() & 1 == 0 { [0, 1] } else { [1, 0] };
    let asked = Unanswered { annotator: user.annotator, conversation, presented };
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((headers, stream::answers(state, asked, seat)).into_response())
}

/// The conversation that is asked about. What the assistant has said in it is what the service has kept, never what a
/// page sends back.
fn conversation(
    state: &AppState,
    annotator: &str,
    asked: LiveQuestion,
) -> Result<Vec<Message>, AppError> {
    let LiveQuestion { conversation: mut said, after } = asked;
    let conversation = match after {
        None if said.iter().any(|message| message.role == Role::Assistant) => {
            let what = "what the assistant said is kept by the service: name the exchange that the \
                        conversation goes on from as \"after\"";
            return Err(AppError::Unprocessable(what.into()));
        }
        None => said,
        Some(name) => {
            let (exchange, _) = Exchange::find(state, &name, annotator)?;
            let before = exchange.continued();
            let mut conversation = before.ok_or_else(|| {
                AppError::Unprocessable("the answers before are not judged yet".into())
            })?;
            conversation.extend(said.pop());
            conversation
        }
    };
    check(&conversation).map_err(AppError::Unprocessable)?;
    Ok(conversation)
}

fn check(conversation: &[Message]) -> Result<(), String> {
    let turns = conversation.iter().filter(|message| message.role == Role::User).count();
    let chars: usize = conversation.iter().map(|message| message.content.chars().count()).sum();
    let last = conversation.last().map(|message| message.role);
    if last != Some(Role::User) {
        return Err("a conversation ends with what the user says".into());
    }
    let known = |message: &Message| matches!(message.role, Role::User | Role::Assistant);
    if !conversation.iter().all(known) {
        return Err("a conversation has messages of the user and the assistant".into());
    }
    if conversation.iter().any(|message| message.content.trim().is_empty()) {
        return Err("a message of the conversation is empty".into());
    }
    if TURNS_MAX < turns {
        return Err(format!("a conversation has at most {TURNS_MAX} prompts, found {turns}"));
    }
    if CHARS_MAX < chars {
        return Err(format!("a conversation has at most {CHARS_MAX} characters, found {chars}"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveVote {
    id: String,
    exchange: String,
    answer: PlacedDecision,
    #[serde(default)]
    rationale: Option<String>,
}

/// Stores the item and its judgement. Sent twice, they are stored once.
async fn vote(
    State(state): State<AppState>,
    user: CurrentUser,
    Json(vote): Json<LiveVote>,
) -> Result<Json<Value>, AppError> {
    let reply = state.blocking(move |state| store(state, &user.annotator, vote)).await?;
    Ok(Json(reply))
}

fn store(state: &AppState, annotator: &str, vote: LiveVote) -> Result<Value, AppError> {
    let LiveVote { id, exchange: name, answer, rationale } = vote;
    let (exchange, version) = Exchange::find(state, &name, annotator)?;
    let item = exchange.item(&name);
    let verdict = answer.verdict(&exchange.presented, 0).map_err(AppError::Unprocessable)?;
    let place = match &verdict {
        Verdict::Preferred { candidate, .. } => usize::from(exchange.presented[0] != *candidate),
        _ => 0,
    };
    let submission = Submission {
        id,
        verdict,
        rationale,
        better: None,
        duration_ms: u64::try_from(state.now() - exchange.at).ok(),
        origin: Origin::Human,
        suggestion: None,
    };
    let guidelines = state.guidelines()?.version;
    let judgement = Judgement {
        presented: exchange.presented.to_vec(),
        guidelines: (guidelines > 0).then_some(guidelines),
        ..distribute::judgement(state, annotator, &item, submission)?
    };
    let exchange = exchange.claim(state, &name, version, &judgement.id, place)?;
    state.store().add_items(std::slice::from_ref(&item))?;
    if state.store().judgement(&judgement.id)?.is_none() {
        state.store().add_judgements(std::slice::from_ref(&judgement))?;
        state.bell().ring();
    }
    let html = markdown(&exchange.answers[exchange.presented[place]].text, Heading::Answer);
    let conversation = exchange.continued();
    Ok(json!({"outcome": "stored", "conversation": conversation, "html": html}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(conversation: &[(Role, &str)]) -> String {
        let messages: Vec<Message> =
            conversation.iter().map(|(role, text)| Message::new(*role, *text)).collect();
        check(&messages).unwrap_err()
    }

    #[test]
    fn conversations_are_checked() {
        let fine = [Message::new(Role::User, "hello")];
        assert_eq!(check(&fine), Ok(()));
        assert!(problem(&[]).contains("ends with"));
        assert!(problem(&[(Role::User, "a"), (Role::Assistant, "b")]).contains("ends with"));
        assert!(problem(&[(Role::System, "a"), (Role::User, "b")]).contains("the assistant"));
        assert!(problem(&[(Role::User, "  ")]).contains("empty"));
        assert!(problem(&[(Role::User, "a"); 21]).contains("at most 20"));
        assert!(problem(&[(Role::User, &"a".repeat(50_001))]).contains("characters"));
    }
}
