/**
 * Phases: what determines each phase of a run, as hashes.
 *
 * A phase is done again when its fingerprint is another one, and only then. Fingerprints are chained: that of a phase
 * holds those of the phases that it builds on. Below the phase stand its logs: where the hash of a log is the same, its
 * records hold, though more or fewer of them may be wanted now (another round, other prompts).
 */
import { createHash } from "node:crypto"
import { Schema } from "effect"
import * as Constitution from "../Constitution.ts"
import * as Json from "../Json.ts"
import * as Sample from "../Sample.ts"
import type { Transcript } from "../Transcript.ts"
import type { PromptSets } from "./PromptSets.ts"
import type { Settings } from "./Settings.ts"
import { trainingKeys } from "./Settings.ts"

/** What determines a phase of a run, and what it makes. */
export const Phase = Schema.Struct({
  /** The hash of everything that determines what the phase makes. */
  fingerprint: Schema.String,
  /** By log, the hash of everything that determines one of its records, given the record's place. */
  logs: Schema.Record(Schema.String, Schema.String),
  /** The other files and folders that the phase makes. */
  files: Schema.Array(Schema.String)
})
export type Phase = typeof Phase.Type

/** The phases of the method, in their order. */
export const names = ["revise", "supervised", "preferences", "reward", "policy", "evaluation"] as const
export type Name = (typeof names)[number]

/** Everything that a run may depend on. */
export interface Inputs {
  /** The fingerprint of the base model. */
  readonly model: string
  readonly transcript: Transcript
  readonly constitution: Constitution.Principles
  /** The models in place of the base, by name. */
  readonly feedback: { readonly [who in "assistant" | "critic" | "judge"]: string | null }
  /** The name of the evaluator. */
  readonly evaluator: string
  readonly settings: Settings
  readonly sets: PromptSets
}

/** The hash of a value, as it stands in JSON. */
export const hash = (value: unknown): string => createHash("sha256").update(Json.text(value)).digest("hex").slice(0, 32)

/** The hash of a transcript: of what it makes of an example of everything. */
export const hashOfTranscript = (transcript: Transcript): string => {
  const [model, request] = ["model", "What is wrong?"]
  const conversation = ["user", "assistant", "user"] as const
  const prompt = Sample.prompt(conversation.map((role, i) => ({ role, content: `Turn ${i}.` })))
  const response = Sample.response({ prompt, text: "An answer.", model, seed: 1, index: 0 })
  const critique = Sample.critique({ response, principle: "p", request, text: "A fault.", round: 1, model })
  const unsaid = Sample.critique({ response, principle: "p", request, text: "", round: 1, model })
  const choice = { prompt, request, answers: ["One.", "Two."] } as const
  const examples = { revision: "Human: ...", comparison: [{ prompt: "A?", chosen: "B.", rejected: "C." }] }
  return hash([
    transcript.response(prompt),
    [undefined, examples].map((fewShot) => [
      transcript.critique(response, request, fewShot),
      transcript.revision(critique, request, fewShot),
      transcript.revision(unsaid, request, fewShot),
      transcript.reasoning(choice, fewShot),
      transcript.choice(choice, fewShot),
      transcript.choice({ ...choice, reasoning: "A thought." }, fewShot)
    ]),
    transcript.completion("An answer.")
  ])
}

const identities = (prompts: PromptSets["supervised"]) => prompts.map(Sample.identity)

/** The phases of a run. `Phases.test.ts` makes sure that no phase reads a setting that is not in its fingerprint. */
export const of = (inputs: Inputs): Readonly<Record<Name, Phase>> => {
  const { feedback, settings, sets } = inputs
  const constitution = Schema.encodeSync(Constitution.Principles)(inputs.constitution)
  const { fewShot } = constitution
  const base = [inputs.model, hashOfTranscript(inputs.transcript), settings.seed]
  // The numbers of prompts and rounds say which records there are, and nothing of what is in them.
  const { prompts: _, benign: __, rounds, critiqueTokens, ...supervised } = settings.supervised
  const { prompts: ___, benign: ____, samples, temperature, maxTokens, ...judging } = settings.preferences
  const training = Object.entries(supervised).filter(([key]) => trainingKeys.includes(key))
  const answering = Object.entries(supervised).filter(([key]) => !trainingKeys.includes(key))

  const answers = [base, feedback.assistant, answering]
  const revisions = [answers, feedback.critic, critiqueTokens, constitution.revision, fewShot?.revision]

  const revise = phase([identities(sets.supervised), rounds], {
    "supervised/responses.jsonl": answers,
    "supervised/critiques.jsonl": revisions,
    "supervised/revisions.jsonl": revisions
  })
  const learnt = trained("supervised", [revise.fingerprint, base, settings.lora, training])

  const pairs = [learnt.fingerprint, temperature, maxTokens]
  const { comparison, helpfulness } = constitution
  const labels = [pairs, base, feedback.judge, comparison, helpfulness, fewShot?.comparison, judging]
  const preferences = phase([identities(sets.preferences), samples], {
    "preferences/pairs.jsonl": pairs,
    "preferences/preferences.jsonl": labels
  })
  const reward = trained("reward", [learnt.fingerprint, preferences.fingerprint, settings.reward])
  const policy = trained(
    "policy",
    [reward.fingerprint, identities(sets.preferences), settings.reinforcement],
    ["policy/calibration.jsonl", "policy/rollouts.jsonl"]
  )

  const { maxTokens: evaluated } = settings.evaluation
  const { heldOut } = sets
  const evaluation = phase(
    [identities(sets.evaluation), rounds, settings.evaluation, inputs.evaluator, preferences.fingerprint],
    {
      "evaluation/responses.jsonl": [answers, evaluated, heldOut],
      "evaluation/critiques.jsonl": [revisions, evaluated, heldOut],
      "evaluation/revisions.jsonl": [revisions, evaluated, heldOut],
      "evaluation/supervised-0.jsonl": [learnt.fingerprint, evaluated],
      "evaluation/supervised-1.jsonl": [learnt.fingerprint, evaluated],
      "evaluation/reinforced-0.jsonl": [policy.fingerprint, evaluated],
      "evaluation/scores.jsonl": [reward.fingerprint]
    },
    ["summary.json"]
  )
  return { revise, supervised: learnt, preferences, reward, policy, evaluation }
}

/** A phase of records, which hold each for itself. */
const phase = (extent: unknown, logs: Readonly<Record<string, unknown>>, files: ReadonlyArray<string> = []): Phase => ({
  fingerprint: hash([extent, logs]),
  logs: Object.fromEntries(Object.entries(logs).map(([file, determines]) => [file, hash(determines)])),
  files
})

/** A training: its steps build on each other, so nothing of it holds when anything is different. */
const trained = (name: string, determines: unknown, records: ReadonlyArray<string> = []): Phase => ({
  fingerprint: hash(determines),
  logs: {},
  files: [...records, `${name}/metrics.jsonl`, `${name}/state`, `${name}/adapter`]
})
