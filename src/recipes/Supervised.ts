/**
 * Supervised: the first phase of Constitutional AI, from prompts to SL-CAI (Bai et al. 2022, section 3).
 *
 * The base answers; it criticises each harmful answer under a principle of the constitution and rewrites it, several
 * rounds; then the base is fine-tuned on the revisions of all rounds and on helpful answers to benign prompts.
 */
import { Effect, Stream } from "effect"
import { Models } from "../Models.ts"
import * as Random from "../Random.ts"
import * as Sample from "../Sample.ts"
import * as Stage from "../Stage.ts"
import * as Critique from "../stages/Critique.ts"
import * as Response from "../stages/Response.ts"
import * as Revision from "../stages/Revision.ts"
import * as Transcript from "../Transcript.ts"
import * as Feedback from "./Feedback.ts"
import * as Progress from "./Progress.ts"
import { recorded } from "./Recorded.ts"
import * as Records from "./Records.ts"
import { Run } from "./Run.ts"
import { failed } from "./RunError.ts"
import type { Settings } from "./Settings.ts"
import * as Training from "./Training.ts"

/** An answer and what became of it, round by round; the answer itself is number 0. */
export interface Revised {
  readonly prompt: Sample.Prompt
  readonly answers: ReadonlyArray<Pick<Sample.Response, "text" | "finish">>
}

/** Which prompts to answer and revise, and where the records are. */
export interface ReviseOptions {
  readonly prompts: ReadonlyArray<Sample.Prompt>
  /** The prompts whose answers are criticised and revised. */
  readonly revise: (prompt: Sample.Prompt) => boolean
  readonly dir: string
  /** A folder with records of the same purpose: what is there is taken over. */
  readonly like?: string
  /** Other purposes have other randomness. */
  readonly purpose: string
  readonly maxTokens: number
}

/** First answers, revised in as many rounds as the settings say. */
export const revise = Effect.fnUntraced(function* (settings: Settings, options: ReviseOptions) {
  const log = yield* Records.revisions(options.dir, options.like)
  const { rounds, critiqueTokens, temperature } = settings.supervised
  const { concurrency } = settings
  const { maxTokens, prompts } = options
  const sampling = { seed: Random.hash(settings.seed, options.purpose), temperature }

  let answers = Stream.fromIterable(prompts).pipe(
    Response.stage({ ...sampling, maxTokens }).pipe(
      recorded("response", {
        log: log.responses,
        key: (prompt: Sample.Prompt) => Records.answerKey(prompt, 0),
        concurrency
      }),
      Stage.provide(Feedback.assistant)
    ),
    Stream.filter(({ prompt }) => options.revise(prompt))
  )
  for (let round = 1; round <= rounds; round++) {
    answers = answers.pipe(
      Critique.stage({ ...sampling, maxTokens: critiqueTokens, round }).pipe(
        recorded("critique", {
          log: log.critiques,
          key: (response: Sample.Response) => Records.roundKey(response, round),
          concurrency
        }),
        Stage.provide(Feedback.critic)
      ),
      Revision.stage({ ...sampling, maxTokens }).pipe(
        recorded("revision", {
          log: log.revisions,
          key: ({ response }: Sample.Critique) => Records.roundKey(response, round),
          concurrency
        }),
        Stage.provide(Feedback.critic)
      ),
      Stream.map(Sample.revised)
    ) as typeof answers
  }
  yield* Stream.runDrain(answers)

  const answerKeys = prompts.map((prompt) => Records.answerKey(prompt, 0))
  const roundKeys = answerKeys.flatMap((key) => Array.from({ length: rounds }, (_, i) => `${key}/${i + 1}`))
  yield* log.responses.settle(answerKeys)
  yield* log.critiques.settle(roundKeys)
  yield* log.revisions.settle(roundKeys)

  return prompts.flatMap((prompt): ReadonlyArray<Revised> => {
    const response = log.responses.get(Records.answerKey(prompt, 0))
    if (response === undefined) return []
    const answers: Array<Revised["answers"][number]> = [response]
    for (let round = 1; round <= rounds; round++) {
      const revision = log.revisions.get(Records.roundKey(response, round))
      if (revision === undefined) break
      answers.push(revision)
    }
    return [{ prompt, answers }]
  })
})

const isHarmful = ({ kind }: Sample.Prompt) => kind === "harmful"

/** The answers of the base to the training prompts, with the revisions of the harmful ones. */
export const answers = Effect.fn("Supervised.answers")(function* (
  settings: Settings,
  prompts: ReadonlyArray<Sample.Prompt>
) {
  const run = yield* Run
  const harmful = prompts.filter(isHarmful).length
  const total = prompts.length + harmful * 2 * settings.supervised.rounds
  return yield* revise(settings, {
    prompts,
    revise: isHarmful,
    dir: "supervised",
    purpose: "revise",
    maxTokens: settings.supervised.maxTokens
  }).pipe(Progress.phase("revise", total), (self) => run.phase("revise", self))
})

/** What the supervised policy learns: the revisions of all rounds, and the answers to benign prompts as they are. */
export const examples = Effect.fnUntraced(function* (revised: ReadonlyArray<Revised>) {
  const transcript = yield* Transcript.Transcript
  return revised.flatMap(({ answers, prompt }) =>
    (isHarmful(prompt) ? answers.slice(1) : answers).map((answer, i) =>
      Transcript.example(transcript, {
        id: `${prompt.id}/${i}`,
        prompt,
        text: answer.text,
        ...(answer.finish === undefined ? {} : { finish: answer.finish })
      })
    )
  )
})

/** The supervised policy, SL-CAI: trained, or as it was left in the run folder. */
export const train = Effect.fn("Supervised.train")(function* (settings: Settings, revised: ReadonlyArray<Revised>) {
  const models = yield* Models
  const run = yield* Run
  const seed = Random.hash(settings.seed, "supervised adapter")
  const adapter = run.path("supervised", "adapter")
  const left = Training.left(adapter, models.policy("supervised", { _tag: "folder", dir: adapter, seed }))
  if (run.isDone("supervised")) return yield* left

  const rows = yield* examples(revised)
  if (rows.length === 0) {
    return yield* failed(
      `There is nothing to learn: no answer could be revised; ${run.path("rejected.jsonl")} says why.`
    )
  }
  const options = Training.options(settings, "supervised", run.path("supervised", "state"))
  return yield* Effect.gen(function* () {
    const policy = yield* Training.run({
      file: "supervised/metrics.jsonl",
      stateDir: options.stateDir,
      rows: rows.length,
      model: models.policy("supervised", { _tag: "fresh", ...settings.lora, seed }),
      learn: (policy, onReject) => policy.learn(rows, options, onReject)
    })
    yield* policy.save(adapter)
    return policy
  }).pipe(Progress.phase("supervised", Training.stepsOf(rows.length, options)), (self) => run.phase("supervised", self))
})

/** The whole phase: the supervised policy out of prompts. */
export const run = Effect.fn("Supervised.run")(function* (settings: Settings, prompts: ReadonlyArray<Sample.Prompt>) {
  const revised = yield* answers(settings, prompts)
  return yield* train(settings, revised)
})
