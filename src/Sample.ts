/**
 * The records that flow through the stages, as Schema classes.
 *
 * A record carries its parents, so every line of a run can be followed back to the prompt that it began with: a
 * revision names its critique, the critique its answer, the answer its prompt. In later rounds the answer under
 * critique is the revised one and bears the id of its revision, so records do not grow from round to round.
 *
 * Ids are hashes of content and parents: the same run writes the same ids on every machine.
 */
import { hash } from "node:crypto"
import { Effect, Schema } from "effect"
import { Finish, Message } from "./Policy.ts"

export { trail, type Step } from "./Trail.ts"

/**
 * The id of a record: the first 16 hexadecimal digits of the SHA-256 of its kind, parents and content.
 *
 * @example
 * Sample.id("critique", response.id, principle, text)
 */
export const id = (kind: string, ...parts: ReadonlyArray<string | number>): string =>
  hash("sha256", JSON.stringify([kind, ...parts])).slice(0, 16)

/** Whether a prompt tries to draw harm out of the model (a red-team prompt) or asks for help. */
export const Kind = Schema.Literals(["harmful", "benign"])
export type Kind = typeof Kind.Type

/** A conversation to be answered. Made by {@link prompt}. */
export class Prompt extends Schema.Class<Prompt>("charter/Prompt")({
  id: Schema.String,
  /** The human's last turn. */
  text: Schema.String,
  /** The conversation so far, ending with the human's turn. */
  messages: Schema.Array(Message),
  /** `harmful` (the default) is a red-team prompt, `benign` a helpfulness prompt. */
  kind: Kind.pipe(
    Schema.withDecodingDefaultKey(Effect.succeed("harmful" as const)),
    Schema.withConstructorDefault(Effect.succeed("harmful" as const))
  )
}) {}

/** An answer. Made by {@link response}. */
export class Response extends Schema.Class<Response>("charter/Response")({
  id: Schema.String,
  prompt: Prompt,
  text: Schema.String,
  model: Schema.String,
  seed: Schema.Number,
  /** Which sample of the prompt it is, from 0. */
  index: Schema.Number,
  /** Why it ended, where its model says so. */
  finish: Schema.optionalKey(Finish)
}) {}

/**
 * What a model found wrong with an answer under one principle. Made by {@link critique}. One without text was left out:
 * the answer is revised directly.
 */
export class Critique extends Schema.Class<Critique>("charter/Critique")({
  id: Schema.String,
  /** The answer under critique; from the second round on its id is the id of the revision that wrote it. */
  response: Response,
  /** The id of the principle. */
  principle: Schema.String,
  /** The critique request of the principle. */
  request: Schema.String,
  text: Schema.String,
  /** The round, from 1. */
  round: Schema.Number,
  model: Schema.String,
  seed: Schema.optionalKey(Schema.Number)
}) {}

/** An answer rewritten in the light of a critique. Made by {@link revision}. */
export class Revision extends Schema.Class<Revision>("charter/Revision")({
  id: Schema.String,
  critique: Critique,
  /** The revision request of the principle. */
  request: Schema.String,
  text: Schema.String,
  /** The round, from 1. */
  round: Schema.Number,
  model: Schema.String,
  seed: Schema.optionalKey(Schema.Number),
  /** Why it ended, where its model says so. */
  finish: Schema.optionalKey(Finish)
}) {}

/** Two answers to one prompt, to be compared. Made by {@link comparison}. */
export class Comparison extends Schema.Class<Comparison>("charter/Comparison")({
  id: Schema.String,
  prompt: Prompt,
  first: Response,
  second: Response
}) {}

const byOrder = Schema.Tuple([Schema.Number, Schema.optionalKey(Schema.Number)])

/** What the judge said under one principle: a part of a {@link Preference}. */
export class Judgement extends Schema.Class<Judgement>("charter/Judgement")({
  /** The id of the principle. */
  principle: Schema.String,
  /** The principle as it was put to the judge. */
  request: Schema.String,
  /** The probability that the first answer is preferred, in each of the orders asked; both are about the first. */
  byOrder,
  /** What was thought before the choice, in each of the orders asked. */
  reasoning: Schema.optionalKey(Schema.Tuple([Schema.String, Schema.optionalKey(Schema.String)]))
}) {}

/**
 * A soft label: how probable it is that the first of two answers is the better one under a principle. Made by
 * {@link preference}.
 */
export class Preference extends Schema.Class<Preference>("charter/Preference")({
  id: Schema.String,
  comparison: Comparison,
  /** The id of the principle; of an ensemble the ids of all, joined by ` + `. */
  principle: Schema.String,
  /** The principle as it was put to the judge; of an ensemble those of all, a line each. */
  request: Schema.String,
  /** The probability that `comparison.first` is preferred, over the orders and principles asked; clamped if so asked. */
  probability: Schema.Number,
  /**
   * The probability that `comparison.first` is preferred, when it was shown as (A) and, if that was asked too, when it
   * was shown as (B). Both are about the first answer (the second number is already un-swapped); half their
   * difference is the judge's bias to the option shown first. Never clamped.
   */
  byOrder,
  model: Schema.String,
  seed: Schema.optionalKey(Schema.Number),
  /** Each principle for itself, where there was more than one or where the judge was made to think. */
  judgements: Schema.optionalKey(Schema.Array(Judgement)),
  /** Neither answer is preferred: a soft label like any other, but neither answer is chosen. */
  tie: Schema.optionalKey(Schema.Literal(true))
}) {}

/** An answer sampled from the policy in training, with what a policy update needs. Made by {@link rollout}. */
export class Rollout extends Schema.Class<Rollout>("charter/Rollout")({
  id: Schema.String,
  prompt: Prompt,
  /** The iteration of reinforcement learning, from 0. */
  iteration: Schema.Number,
  /** Which sample of the prompt in this iteration it is, from 0. */
  index: Schema.Number,
  text: Schema.String,
  promptIds: Schema.Array(Schema.Number),
  /** The sampled tokens, with the end token if there is one. */
  tokenIds: Schema.Array(Schema.Number),
  /** Nats, at temperature 1, one for each of `tokenIds`. */
  logprobs: Schema.Array(Schema.Number),
  finish: Finish,
  model: Schema.String,
  seed: Schema.optionalKey(Schema.Number)
}) {}

/** A rollout with its reward. Made by {@link reward}. */
export class Reward extends Schema.Class<Reward>("charter/Reward")({
  id: Schema.String,
  rollout: Rollout,
  /** The reward model's score: a logit. */
  score: Schema.Number,
  /** What the policy learns from: the score standardised and clamped, or the penalty of an answer without end. */
  reward: Schema.Number,
  /** The reward model. */
  model: Schema.optionalKey(Schema.String)
}) {}

type Fields<A> = Omit<A, "id">

/**
 * A prompt from its text or from a conversation that ends with the human's turn.
 *
 * @example
 * Sample.prompt("How do I pick a lock?")
 * Sample.prompt([{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello" }, { role: "user", content: "?" }], "benign")
 */
export const prompt = (input: string | ReadonlyArray<Message>, kind: Kind = "harmful"): Prompt => {
  const messages = typeof input === "string" ? [{ role: "user" as const, content: input }] : input
  const text = messages.findLast((message) => message.role === "user")?.content ?? ""
  return new Prompt({ id: contentId({ messages, kind }), text, messages, kind })
}

const contentId = ({ messages, kind }: Pick<Prompt, "messages" | "kind">): string =>
  id("prompt", kind, ...messages.flatMap((message) => [message.role, message.content]))

/** What tells a prompt from every other one: its id, and its content where the id is one of its own. */
export const identity = (prompt: Prompt): string => {
  const content = contentId(prompt)
  return prompt.id === content ? content : `${prompt.id}#${content}`
}

/** An answer with its id. */
export const response = (fields: Fields<Response>): Response =>
  new Response({
    ...fields,
    id: id("response", fields.prompt.id, fields.model, fields.seed, fields.index, fields.text)
  })

/** A critique with its id. */
export const critique = (fields: Fields<Critique>): Critique =>
  new Critique({
    ...fields,
    id: id("critique", fields.response.id, fields.model, fields.round, fields.principle, fields.request, fields.text)
  })

/** A revision with its id. */
export const revision = (fields: Fields<Revision>): Revision =>
  new Revision({ ...fields, id: id("revision", fields.critique.id, fields.model, fields.request, fields.text) })

/** The revised answer, as the answer that the next round starts from: it bears the id of its revision. */
export const revised = (from: Revision): Response => {
  const { finish: _, ...response } = from.critique.response
  return new Response({
    ...response,
    id: from.id,
    text: from.text,
    model: from.model,
    seed: from.seed ?? response.seed,
    ...(from.finish === undefined ? {} : { finish: from.finish })
  })
}

/** A comparison of two answers to the same prompt. */
export const comparison = (first: Response, second: Response): Comparison =>
  new Comparison({ id: id("comparison", first.id, second.id), prompt: first.prompt, first, second })

/** A preference with its id; a probability of exactly one half is marked as a tie. */
export const preference = (fields: Omit<Fields<Preference>, "tie">): Preference =>
  new Preference({
    ...fields,
    ...(fields.probability === 0.5 ? { tie: true as const } : {}),
    id: id("preference", fields.comparison.id, fields.model, fields.principle, fields.request, fields.probability)
  })

/** A rollout with its id. */
export const rollout = (fields: Fields<Rollout>): Rollout =>
  new Rollout({
    ...fields,
    id: id("rollout", fields.prompt.id, fields.model, fields.iteration, fields.index, fields.text, ...fields.tokenIds)
  })

/** A reward with its id. */
export const reward = (fields: Fields<Reward>): Reward =>
  new Reward({ ...fields, id: id("reward", fields.rollout.id, fields.score, fields.reward) })

/** The answer that a preference is for and the one that it is against; undefined where it is a tie. */
export const chosen = ({
  comparison: { first, second },
  probability
}: Preference): { readonly chosen: Response; readonly rejected: Response } | undefined => {
  if (probability === 0.5) return undefined
  return probability > 0.5 ? { chosen: first, rejected: second } : { chosen: second, rejected: first }
}
