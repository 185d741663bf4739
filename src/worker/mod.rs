//! Operations done by a child process, which may die of what it reads.
//!
//! The request goes to the child as JSON, and the report comes back as JSON, by the unnamed file that
//! the child also writes its status to.
//!
//! Invariants: a caller gets the report, or an error with one of the exit codes of the table, however
//! the child ends; what the child left in scratch is removed.

mod supervise;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::supervise::{be_worker, is_worker};

use crate::archive;
use crate::base::error::{Error, Kind, Result};
use crate::base::operation::{Context, Operation};
use crate::base::progress::{Form, Progress};
use crate::base::status;
use crate::drill::DrillRequest;
use crate::export::ExportRequest;
use crate::ingest::IngestRequest;
use crate::jobs;
use crate::merge::{MergeRequest, PlanRequest};
use crate::split::SplitRequest;
use crate::verify::{DiffRequest, VerifyRequest};

/// A request on its way to a child.
#[derive(Serialize, Deserialize)]
struct Message {
    operation: String,
    progress: Progress,
    form: Form,
    request: Value,
}

/// Has a child run `request` and returns its report. The child gets `key` as its API key, and without
/// one that of this process.
pub fn call<O: Operation>(request: &O, context: &Context, key: Option<&str>) -> Result<O::Report> {
    let failed = |err: serde_json::Error| {
        Error::usage(format!("asking for {}", O::NAME), err).next("names of files have to be UTF-8")
    };
    let message = Message {
        operation: O::NAME.into(),
        progress: context.progress,
        form: Form::chosen(),
        request: serde_json::to_value(request).map_err(failed)?,
    };
    let answer = supervise::ask(&serde_json::to_vec(&message).map_err(failed)?, key)?;
    let answer: Result<O::Report> = serde_json::from_slice(&answer).map_err(|err| {
        Error::failed(format!("reading the report of {}", O::NAME), err)
            .next("this is a fault of snapmerge: please report it")
    })?;
    answer
}

/// Runs `request` in this process, a child, and answers it.
pub fn serve(request: &[u8]) -> Result<()> {
    let failed = |err: serde_json::Error| Error::failed("reading the request", err);
    let message: Message = serde_json::from_slice(request).map_err(failed)?;
    let answer = dispatch(message);
    let text =
        serde_json::to_string(&answer).map_err(|err| Error::failed("writing the report", err))?;
    status::answer(text);
    Ok(())
}

/// Runs the operation that `message` names.
fn dispatch(message: Message) -> Result<Value> {
    message.form.choose();
    let context = Context {
        progress: message.progress,
    };
    let run = match message.operation.as_str() {
        MergeRequest::NAME => answer::<MergeRequest>,
        PlanRequest::NAME => answer::<PlanRequest>,
        VerifyRequest::NAME => answer::<VerifyRequest>,
        DiffRequest::NAME => answer::<DiffRequest>,
        ExportRequest::NAME => answer::<ExportRequest>,
        IngestRequest::NAME => answer::<IngestRequest>,
        SplitRequest::NAME => answer::<SplitRequest>,
        DrillRequest::NAME => answer::<DrillRequest>,
        jobs::JobPlanRequest::NAME => answer::<jobs::JobPlanRequest>,
        jobs::TaskRequest::NAME => answer::<jobs::TaskRequest>,
        jobs::JoinRequest::NAME => answer::<jobs::JoinRequest>,
        jobs::JobStatusRequest::NAME => answer::<jobs::JobStatusRequest>,
        jobs::JobRemoveRequest::NAME => answer::<jobs::JobRemoveRequest>,
        archive::InitRequest::NAME => answer::<archive::InitRequest>,
        archive::AddRequest::NAME => answer::<archive::AddRequest>,
        archive::ListRequest::NAME => answer::<archive::ListRequest>,
        archive::FindRequest::NAME => answer::<archive::FindRequest>,
        archive::ShowRequest::NAME => answer::<archive::ShowRequest>,
        archive::GetRequest::NAME => answer::<archive::GetRequest>,
        archive::CheckRequest::NAME => answer::<archive::CheckRequest>,
        archive::CopyRequest::NAME => answer::<archive::CopyRequest>,
        archive::ForgetRequest::NAME => answer::<archive::ForgetRequest>,
        archive::VerifyChainRequest::NAME => answer::<archive::VerifyChainRequest>,
        archive::UnlockRequest::NAME => answer::<archive::UnlockRequest>,
        other => {
            return Err(Error::new(
                Kind::Usage,
                "reading the request",
                format!("there is no operation {other}"),
            ));
        }
    };
    run(message.request, &context)
}

fn answer<O: Operation>(request: Value, context: &Context) -> Result<Value> {
    let request: O = serde_json::from_value(request)
        .map_err(|err| Error::failed(format!("reading the request for {}", O::NAME), err))?;
    serde_json::to_value(request.run(context)?)
        .map_err(|err| Error::failed(format!("writing the report of {}", O::NAME), err))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;
    use crate::capture::CaptureRequest;
    use crate::inspect::InspectRequest;
    use crate::publish::{PublishRequest, RollbackRequest};
    use crate::restore::RestoreOptions;

    /// Options are flattened into one object: two of one name would be one.
    fn no_key_is_there_twice<O: Serialize + Args + FromArgMatches>(typed: &str) {
        let command = O::augment_args(Command::new("snapmerge"));
        let words = std::iter::once("snapmerge").chain(typed.split(' '));
        let request = O::from_arg_matches(&command.get_matches_from(words)).unwrap();
        let written = serde_json::to_string(&request).unwrap();
        let once: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(once.to_string().len(), written.len(), "{written}");
    }

    #[test]
    fn requests_survive_json() {
        let server = "http://prod:6333";
        no_key_is_there_twice::<MergeRequest>("archive:a --archive b -o master.snapshot --state s");
        no_key_is_there_twice::<VerifyRequest>("m.snapshot --against archive:a --archive b");
        no_key_is_there_twice::<DiffRequest>("archive:a b.snapshot --archive b");
        no_key_is_there_twice::<ExportRequest>("archive:a --archive b");
        no_key_is_there_twice::<IngestRequest>(
            "a.jsonl -o b.snapshot --like archive:a --archive b",
        );
        no_key_is_there_twice::<SplitRequest>("archive:a --by y -o {y}.snapshot --archive b");
        no_key_is_there_twice::<InspectRequest>("archive:a --archive b");
        no_key_is_there_twice::<DrillRequest>("--archive b --state s");
        no_key_is_there_twice::<RestoreOptions>("--archive b --state s");
        no_key_is_there_twice::<CaptureRequest>(&format!("{server} c --archive b"));
        no_key_is_there_twice::<PublishRequest>(&format!("{server} c --alias a --state s"));
        no_key_is_there_twice::<RollbackRequest>(&format!("{server} --alias a --state s"));
        no_key_is_there_twice::<jobs::JobPlanRequest>("jobs archive:a --archive b");
        no_key_is_there_twice::<jobs::TaskRequest>("jobs/j --stage shard --archive b");
        no_key_is_there_twice::<jobs::JoinRequest>("jobs/j -o m.snapshot --archive b");
        no_key_is_there_twice::<jobs::JobStatusRequest>("jobs/j");
        no_key_is_there_twice::<jobs::JobRemoveRequest>("jobs/j");
        no_key_is_there_twice::<archive::InitRequest>("--archive b");
        no_key_is_there_twice::<archive::AddRequest>("a.snapshot --archive b");
        no_key_is_there_twice::<archive::ListRequest>("--archive b");
        no_key_is_there_twice::<archive::FindRequest>("--id 1 --archive b");
        no_key_is_there_twice::<archive::ShowRequest>("a --archive b");
        no_key_is_there_twice::<archive::GetRequest>("a -o a.snapshot --archive b");
        no_key_is_there_twice::<archive::CheckRequest>("--archive b");
        no_key_is_there_twice::<archive::CopyRequest>("--from a --to b");
        no_key_is_there_twice::<archive::ForgetRequest>("--archive b");
        no_key_is_there_twice::<archive::VerifyChainRequest>("--archive b");
        no_key_is_there_twice::<archive::UnlockRequest>("--archive b");
    }
}
