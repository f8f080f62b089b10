/** The project's folder. */
export const home = new URL('../..', import.meta.url)
