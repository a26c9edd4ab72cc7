export const tables = ['meta'];
export const draw = () => [];
