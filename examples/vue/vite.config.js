import vue from '@vitejs/plugin-vue';
import { defineConfig } from 'vite';

export default defineConfig({
  plugins: [vue()],
  // The API and Logto accept this origin only, so another port would not work.
  server: { host: '127.0.0.1', port: 5173, strictPort: true },
});
