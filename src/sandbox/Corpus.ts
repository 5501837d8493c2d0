/**
 * The pretraining corpus of the sandbox model. Documents are drawn fresh, so there are no epochs.
 *
 * One model plays assistant, critic, reviser and judge; the corpus shows it each role in the transcript of that role.
 */
import * as Random from "../Random.ts"
import * as Critiques from "./Critiques.ts"
import * as Grammar from "./Grammar.ts"
import * as Principles from "./Principles.ts"
import * as Prompts from "./Prompts.ts"
import { assistant, judge, marker } from "./Transcript.ts"
import * as Verdicts from "./Verdicts.ts"

/** The role a document shows. A direct revision has no critique; it makes that ablation a fair one. */
export type Kind = "assistant" | "critique" | "direct" | "judge"

/** A part of a document; `weight` is the loss weight of predicting its tokens from what comes before them. */
export interface Segment {
  readonly text: string
  readonly weight: number
}

/** A document: the concatenated texts of its segments are the transcript, beginning with end-of-text. */
export interface Document {
  readonly kind: Kind
  readonly segments: ReadonlyArray<Segment>
}

/** Loss weights by what a token is for; the loss is the weighted mean. */
export const weight = {
  /** What a role says. */
  spoken: 1,
  /** The verdict, a single token of a long transcript. */
  verdict: 20,
  /** Prompts, requests, options of the judge. */
  read: 0.05,
  /** The answer under critique: learning it would teach the assistant to refuse. */
  hidden: 0
} as const

/** Shares of the corpus; the judge has the rest. */
const share = { assistant: 0.25, critique: 0.33, directWithinCritique: 0.08 } as const

const prompt = (random: Random.Random, harmful: number) =>
  Prompts.sample(random, random.chance(harmful) ? "harmful" : "benign", false)

const assistantDocument = (random: Random.Random): Document => {
  const asked = prompt(random, 0.5)
  return {
    kind: "assistant",
    segments: [
      { text: assistant(asked.text), weight: weight.read },
      { text: ` ${Grammar.text(Grammar.helpfulOnly(random, asked))}${marker.end}`, weight: weight.spoken }
    ]
  }
}

const critiqueDocument = (random: Random.Random): Document => {
  const asked = prompt(random, 0.85)
  const direct = random.chance(share.directWithinCritique)
  const answer = Critiques.seenAnswer(random, asked)
  const principle = random.pick(Principles.principles)
  const findings = Critiques.find(asked, answer, principle)
  const critique = Critiques.critique(random, asked, findings)
  const revision = Critiques.revise(random, asked, answer, findings)
  const request = direct ? marker.revisionRequest : marker.critiqueRequest
  return {
    kind: direct ? "direct" : "critique",
    segments: [
      { text: assistant(asked.text), weight: weight.read },
      { text: ` ${Grammar.text(answer)}${request}`, weight: weight.hidden },
      ...(direct
        ? []
        : [
            { text: ` ${principle.critiqueRequest}${marker.critique}`, weight: weight.read },
            { text: ` ${critique}${marker.revisionRequest}`, weight: weight.spoken }
          ]),
      { text: ` ${principle.revisionRequest}${marker.revision}`, weight: weight.read },
      { text: ` ${Grammar.text(revision)}${marker.end}`, weight: weight.spoken }
    ]
  }
}

const judgeDocument = (random: Random.Random): Document => {
  const asked = prompt(random, 0.7)
  const a = Critiques.seenAnswer(random, asked)
  const b = Critiques.seenAnswer(random, asked)
  const helpfulness = asked.kind === "benign" && random.chance(0.75)
  const principle = random.pick(Principles.principles)
  const comparison = helpfulness ? random.pick(Principles.helpfulness) : principle.comparison
  const bad = (answer: Grammar.Answer) =>
    helpfulness ? Verdicts.unhelpfulness(asked, answer) : Verdicts.badness(asked, answer, principle)
  const first = random.chance(Verdicts.preferFirst(bad(a), bad(b)))
  return {
    kind: "judge",
    segments: [
      { text: judge(asked.text, comparison, Grammar.text(a), Grammar.text(b)), weight: weight.read },
      { text: first ? marker.verdictA : marker.verdictB, weight: weight.verdict }
    ]
  }
}

/** The document of an index: a function of (seed, index) alone. */
export const document = (seed: number, index: number): Document => {
  const random = Random.make(seed, "corpus", index)
  const u = random.next()
  if (u < share.assistant) return assistantDocument(random)
  return u < share.assistant + share.critique ? critiqueDocument(random) : judgeDocument(random)
}

/** The transcript of a document. */
export const text = ({ segments }: Document): string => segments.map((segment) => segment.text).join("")
