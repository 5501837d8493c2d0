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

/** What a provider asks for a million tokens, in any one currency. */
export interface Price {
  readonly input: number
  readonly output: number
}

/** The price of tokens, in the currency of `price`. */
export const cost = ({ input, output }: Tokens, price: Price): number =>
  (input * price.input + output * price.output) / 1e6
