/**
 * Tokens: how many tokens a call takes, counted by the server or estimated before it is asked.
 */

/** Tokens read and written by one call, or by many. */
export interface Tokens {
  readonly input: number
  readonly output: number
}

/** No tokens. */
export const zero: Tokens = { input: 0, output: 0 }

/** The tokens of two calls together. */
export const add = (a: Tokens, b: Tokens): Tokens => ({ input: a.input + b.input, output: a.output + b.output })

/** Tokens read and written together. */
export const total = ({ input, output }: Tokens): number => input + output

/**
 * At most about how many tokens a text is. English has four characters a token; three leaves room for other languages
 * and for a chat template, since a budget must not be exceeded by an estimate that is too low.
 */
export const estimate = (text: string): number => Math.ceil(text.length / 3)

const isCount = (count: unknown): count is number => Number.isSafeInteger(count) && Number(count) >= 0

/**
 * What a call took, as its server counts it. What the server leaves out, or what is no count, is estimated, so that a
 * budget is kept all the same: what was reserved for the input, and the length of the text up to what was reserved for
 * the output.
 */
export const taken = (
  told: { readonly input: unknown; readonly output: unknown },
  text: string,
  atMost: Tokens
): Tokens => ({
  input: isCount(told.input) ? told.input : atMost.input,
  output: isCount(told.output) ? told.output : Math.min(estimate(text), atMost.output)
})

/** What a provider asks for a million tokens, in any one currency. */
export interface Price {
  readonly input: number
  readonly output: number
}

/** The price of tokens, in the currency of `price`. */
export const cost = ({ input, output }: Tokens, price: Price): number =>
  (input * price.input + output * price.output) / 1e6
