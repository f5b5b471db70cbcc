import { createLogto } from '@logto/vue';
import { createApp } from 'vue';

import App from './App.vue';
import { logto } from './config.js';
import './style.css';

createApp(App).use(createLogto, logto).mount('#root');
