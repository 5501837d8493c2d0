/**
 * Prompts of the sandbox world, and the split that keeps a fifth of them for evaluation.
 */
import { Data } from "effect"
import { createHash } from "node:crypto"
import * as Random from "../Random.ts"
import * as World from "./World.ts"
import type { Kind } from "./World.ts"

/** A question to the assistant, with what the grammar and the oracle need to know about it. */
export interface Prompt {
  readonly text: string
  readonly kind: Kind
  readonly category: string
  readonly verb: string
  readonly object: string
  /** Held-out combos never occur in pretraining or in any stage of the method; only evaluation uses them. */
  readonly heldOut: boolean
}

/** What a prompt asks about, without its wording. */
export type Combo = Omit<Prompt, "text">

/** Whether md5(category + verb + object), as one number, is divisible by 5. */
export const isHeldOut = (category: string, verb: string, object: string): boolean =>
  BigInt(`0x${createHash("md5").update(`${category}${verb}${object}`).digest("hex")}`) % 5n === 0n

/** All 1,024 harmful and 1,024 benign combos. */
export const combos: ReadonlyArray<Combo> = World.categories.flatMap((category) =>
  category.verbs.flatMap((verb) =>
    category.objects.map((object) => ({
      kind: category.kind,
      category: category.name,
      verb,
      object,
      heldOut: isHeldOut(category.name, verb, object)
    }))
  )
)

const select = (kind: Kind, heldOut: boolean) => combos.filter((c) => c.kind === kind && c.heldOut === heldOut)
const pools = {
  harmful: { train: select("harmful", false), heldOut: select("harmful", true) },
  benign: { train: select("benign", false), heldOut: select("benign", true) }
}

/** One random prompt of a kind and split. */
export const sample = (random: Random.Random, kind: Kind, heldOut: boolean): Prompt => {
  const combo = random.pick(pools[kind][heldOut ? "heldOut" : "train"])
  const determiner = random.pick(World.determiners)
  const setting = random.chance(0.4) ? "" : random.pick(World.settings)
  const text = random
    .pick(World.phrasings)
    .replace("{v}", combo.verb)
    .replace("{d}", determiner)
    .replace("{o}", combo.object)
    .replace("{s}", setting)
  return { text: World.articles(text), ...combo }
}

/** Which prompts to draw, and which texts not to draw again. */
export interface DrawOptions {
  readonly seed: number
  /** What the prompts are for; another purpose gives other prompts. */
  readonly purpose: string
  readonly kind: Kind
  readonly heldOut: boolean
  readonly count: number
  readonly exclude?: ReadonlySet<string>
}

/** The world has fewer prompts than were asked for. */
export class TooFew extends Data.TaggedError("TooFew")<{ readonly message: string }> {}

/** `count` prompts with distinct texts; throws {@link TooFew}. The first prompts do not depend on `count`. */
export const draw = (options: DrawOptions): Array<Prompt> => {
  const seen = new Set<string>()
  const out: Array<Prompt> = []
  const split = options.heldOut ? "held out" : "train"
  let misses = 0
  // An excluded set drawn for the same purpose is missed in one piece.
  const patience = 1000 + (options.exclude?.size ?? 0)
  for (let i = 0; out.length < options.count; i++) {
    const random = Random.make(options.seed, options.purpose, options.kind, split, i)
    const prompt = sample(random, options.kind, options.heldOut)
    if (!seen.has(prompt.text) && options.exclude?.has(prompt.text) !== true) {
      seen.add(prompt.text)
      out.push(prompt)
      misses = 0
    } else if (++misses === patience) {
      // There are about 45,000 held-out and 180,000 train prompts a side.
      const message = `Only ${out.length} of ${options.count} distinct ${split} ${options.kind} prompts for the phase ${options.purpose} were found, as the sandbox has no more; set fewer.`
      throw new TooFew({ message })
    }
  }
  return out
}

const byVerbAndObject = new Map(combos.map((combo) => [`${combo.verb} ${combo.object}`, combo]))
const determiner = [...new Set(World.determiners), "an"].join("|")
const setting = World.settings.join("|")
const patterns = World.phrasings.map((phrasing) => {
  const source = phrasing.replace(/[.?]/g, "\\$&")
  return new RegExp(
    `^${source.replace("{v}", "(\\w+)").replace("{d}", `(?:${determiner})`).replace("{o}", "(\\w+)").replace("{s}", `(?:${setting})?`)}$`
  )
})

/** The prompt with the given text, where it is one of this world. */
export const parse = (text: string): Prompt | undefined => {
  const trimmed = text.trim()
  for (const pattern of patterns) {
    const match = pattern.exec(trimmed)
    const combo = match === null ? undefined : byVerbAndObject.get(`${match[1]} ${match[2]}`)
    if (combo !== undefined) return { text: trimmed, ...combo }
  }
  return undefined
}
