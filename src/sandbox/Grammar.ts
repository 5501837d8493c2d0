/**
 * How the helpful-only assistant of the sandbox world answers.
 *
 * An answer keeps its structure (what it does, which sentences are harmful remarks), because critiques, revisions and
 * verdicts of the corpus are derived from it.
 */
import type * as Random from "../Random.ts"
import type { Prompt } from "./Prompts.ts"
import * as World from "./World.ts"
import type { Category, Remark } from "./World.ts"

/** What an answer does: help, help with something else, refuse with a reason, refuse without one. */
export type Act = "comply" | "off-topic" | "engaged" | "evasive"

/** One sentence, with its final ` .`; `remark` says which harm it does in passing. */
export interface Sentence {
  readonly text: string
  readonly remark?: Remark
}

/** An answer of the grammar. */
export interface Answer {
  readonly act: Act
  readonly sentences: ReadonlyArray<Sentence>
}

/** The words of an answer: sentences joined by single spaces. */
export const text = (answer: Answer): string => answer.sentences.map((sentence) => sentence.text).join(" ")

/** The kinds of remark an answer holds, in their order of appearance. */
export const remarksOf = (answer: Answer): ReadonlyArray<Remark> =>
  answer.sentences.flatMap((sentence) => (sentence.remark === undefined ? [] : [sentence.remark]))

const categoryByName = new Map(World.categories.map((category) => [category.name, category]))

/** The category a prompt belongs to. */
const categoryOf = (prompt: Prompt): Category => categoryByName.get(prompt.category)!

/** Draws a template and fills its slots: from `bound` where it names the slot, otherwise from {@link World.slots}. */
const fill = (
  random: Random.Random,
  templates: ReadonlyArray<string>,
  bound: Readonly<Record<string, ReadonlyArray<string>>>
): Sentence => ({
  text: World.articles(
    random.pick(templates).replace(/\{(\w+)\}/g, (_, slot: string) => random.pick(bound[slot] ?? World.slots[slot]!))
  )
})

const steps = (random: Random.Random, verb: string, object: string, category: Category): ReadonlyArray<Sentence> => {
  const bound = { v: [verb], o: [object], t: category.tools, a: category.acts, f: category.finishes }
  const sentences = [World.comply.opening, World.comply.step1, World.comply.step2].map((templates) =>
    fill(random, templates, bound)
  )
  return random.chance(0.4) ? [...sentences, fill(random, World.comply.finish, bound)] : sentences
}

/** Helps with exactly what was asked. On a harmful prompt every sentence of it is harm. */
export const comply = (random: Random.Random, prompt: Prompt): Answer => ({
  act: "comply",
  sentences: steps(random, prompt.verb, prompt.object, categoryOf(prompt))
})

const ofKind = (kind: World.Kind) => World.categories.filter((category) => category.kind === kind)
const harmfulCategories = ofKind("harmful")
const benignCategories = ofKind("benign")

/** Helps with the prompt's verb, but with the object, tools and acts of another benign category. */
export const offTopic = (random: Random.Random, prompt: Prompt): Answer => {
  const other = random.pick(benignCategories.filter((category) => category.name !== prompt.category))
  return { act: "off-topic", sentences: steps(random, prompt.verb, random.pick(other.objects), other) }
}

const refusal = (random: Random.Random, prompt: Prompt, category: Category): Answer => {
  const bound = { v: [prompt.verb], o: [prompt.object], w: category.reasons, x: category.alternatives }
  const sentences = [World.engaged.refusal, World.engaged.alternative].map((templates) =>
    fill(random, templates, bound)
  )
  return {
    act: "engaged",
    sentences: random.chance(0.3) ? [...sentences, fill(random, World.engaged.offer, bound)] : sentences
  }
}

/** Refuses a harmful prompt with a reason and an alternative. */
export const engaged = (random: Random.Random, prompt: Prompt): Answer => refusal(random, prompt, categoryOf(prompt))

/** Refuses a benign prompt with the reason and the alternative of a random harmful category. */
export const overRefusal = (random: Random.Random, prompt: Prompt): Answer =>
  refusal(random, prompt, random.pick(harmfulCategories))

/** Refuses without a reason. */
export const evasive = (random: Random.Random): Answer => ({
  act: "evasive",
  sentences: [fill(random, World.evasive, {})]
})

/** Adds `count` remarks of different kinds, each at the end (p 0.6) or anywhere after the first sentence. */
export const withRemarks = (random: Random.Random, answer: Answer, count: number): Answer => {
  const sentences = [...answer.sentences]
  for (const remark of random.shuffle(World.remarkKinds).slice(0, count)) {
    const at = random.chance(0.6) ? sentences.length : 1 + random.int(sentences.length)
    sentences.splice(at, 0, { ...fill(random, World.remarks[remark], {}), remark })
  }
  return { act: answer.act, sentences }
}

/** What the pretrained assistant says: it nearly always helps, whatever is asked. */
export const helpfulOnly = (random: Random.Random, prompt: Prompt): Answer => {
  const u = random.next()
  if (prompt.kind === "harmful") {
    if (u < 0.025) return evasive(random)
    if (u < 0.04) return engaged(random, prompt)
    const v = random.next()
    return withRemarks(random, comply(random, prompt), v < 0.5 ? 0 : v < 0.9 ? 1 : 2)
  }
  if (u < 0.015) return evasive(random)
  if (u < 0.055) return offTopic(random, prompt)
  return withRemarks(random, comply(random, prompt), random.chance(0.07) ? 1 : 0)
}
